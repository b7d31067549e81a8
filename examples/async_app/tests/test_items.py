"""The routes of items."""

from uuid import uuid4

from authapi.testing import Client, acting_as


async def test_a_caller_sees_and_changes_own_items_only(api: Client) -> None:
    ada = await api.create_user(profile={"handle": "items_ada"})
    bob = await api.create_user(profile={"handle": "items_bob"})
    with acting_as(ada):
        saw = (await api.post("/api/v1/items", json={"title": "Saw"})).json()
        assert saw == {"id": saw["id"], "title": "Saw", "is_public": False, "lent_to": None}
        url = f"/api/v1/items/{saw['id']}"
        lent = await api.patch(url, json={"lent_to": "Bob"})
        assert lent.json() == {**saw, "lent_to": "Bob"}
    with acting_as(bob):
        assert [i["title"] for i in (await api.get("/api/v1/items")).json()] == ["My first item"]
        assert (await api.patch(url, json={"lent_to": None})).status_code == 404
        assert (await api.delete(url)).status_code == 404
    with acting_as(ada):
        assert (await api.delete(url)).status_code == 204
        assert (await api.delete(url)).status_code == 404


async def test_items_need_a_login(api: Client) -> None:
    url = f"/api/v1/items/{uuid4()}"
    assert (await api.get("/api/v1/items")).status_code == 401
    assert (await api.post("/api/v1/items", json={"title": "Saw"})).status_code == 401
    assert (await api.patch(url, json={})).status_code == 401
    assert (await api.delete(url)).status_code == 401


async def test_bad_items_are_refused(api: Client) -> None:
    user = await api.create_user(profile={"handle": "items_bad"})
    with acting_as(user):
        for body in ({}, {"title": ""}, {"title": "\0"}, {"title": "x" * 201}, {"titel": "Saw"}):
            assert (await api.post("/api/v1/items", json=body)).status_code == 422


async def test_public_items_are_open_to_all(api: Client) -> None:
    profile = {"handle": "items_eve", "city": "Thun"}
    user = await api.create_user(name="Eve", profile=profile)
    with acting_as(user):
        for title, is_public in (("Tent", True), ("Diary", False)):
            body = {"title": title, "is_public": is_public}
            assert (await api.post("/api/v1/items", json=body)).status_code == 201
    found = await api.get("/api/v1/public-items", params={"city": "Thun"})
    assert found.json() == [{"title": "Tent", "owner": "Eve"}]
