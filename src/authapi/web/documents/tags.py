"""What the tags of our routes mean, for the OpenAPI document."""

from collections.abc import Iterable, Iterator, Mapping

from authapi.web.answers.descriptions import Document

TAGS: Mapping[str, str] = {
    "login": "Log in with one factor or two, refresh and revoke credentials, and log out.",
    "account": "Your account: register, read and change it, prove your password again.",
    "second factors": "Authenticator app, passkeys and recovery codes of your account.",
    "identities": "People at other providers who may log in to your account.",
    "sessions": "Where your account is logged in, and the data of this session.",
    "tokens": "Personal access tokens for scripts, and tokens for other services.",
    "recovery": "Confirm and change the e-mail address, reset the password, accept an invitation.",
    "administration": "Accounts of other people and all events. Only for superusers.",
    "metadata": "Public documents for clients: signing keys, endpoints, what protects this API.",
    "health": "Whether the service runs, and whether it can answer.",
}
"""The tags in the order of a reader who begins."""


def describe_tags(
    document: Document, own_operations: Iterable[Document], *, governs_app: bool
) -> None:
    """Adds the descriptions of the tags that our operations have, unless the document has them.

    Pages show described tags in this order, before all others. So the tags of an application stay
    before ours; if it has routes without a tag, ours are not described.
    """
    used = {tag for operation in own_operations for tag in operation.get("tags", ())}
    declared: list[Document] = list(document.get("tags", ()))
    names = {tag["name"] for tag in declared}
    if not governs_app:
        others = list(_tags_of_others(document, used))
        if None in others:
            return
        declared += [{"name": name} for name in dict.fromkeys(others) if name not in names]
    declared += [
        {"name": name, "description": text}
        for name, text in TAGS.items()
        if name in used and name not in names
    ]
    if declared:
        document["tags"] = declared


def _tags_of_others(document: Document, ours: Iterable[str]) -> Iterator[str | None]:
    """Yields the tags that are not `ours`, in the order of the paths; None for no tag at all."""
    for path in document["paths"].values():
        for operation in path.values():
            if isinstance(operation, dict) and "responses" in operation:
                tags = operation.get("tags") or [None]
                yield from (tag for tag in tags if tag is None or tag not in ours)
