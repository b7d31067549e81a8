"""Runs smuggling attacks and checks responses, received requests and effects on other users."""

import json
import time
from collections.abc import Iterable, Sequence

from tests.proxies.testbed.accounts import Account
from tests.proxies.testbed.attacks import SENTINEL, STOLEN, Attack
from tests.proxies.testbed.backends import Backend
from tests.proxies.testbed.wire import TIMEOUT, Address, Answer, Connection, NoAnswer, request

PLAIN = frozenset({"imported", "surrounded", "verifying"})
"""Services under plain uvicorn: an application cannot change how it parses a request."""
_PAUSE = 0.01
"""Seconds between packets through a proxy, in which it passes on the first packet."""
_SHORT_TIMEOUT = 1.0
"""Seconds for plain uvicorn to answer a WebSocket handshake. It often does not."""
_ALIVE = b'{"status":"ok"}'


class AttackRunner:
    """AttackRunner on `backend` at `address`, its own or that of a proxy in front of it."""

    def __init__(self, backend: Backend, address: Address, *, is_direct: bool) -> None:
        self._backend = backend
        self._address = address
        self._is_direct = is_direct
        self._is_plain = backend.kind in PLAIN
        *self._victims, self._accomplice, self._attacker = backend.accounts
        self._accomplice_cookie = _line(self._accomplice)

    @property
    def token(self) -> str:
        """The valid credential of the attacker."""
        return self._attacker.jwt["Authorization"]

    def problems(self, attacks: Iterable[Attack]) -> list[str]:
        """Runs the attacks; returns one line for each that succeeded."""
        self._backend.seen()
        found = []
        for attack in attacks:
            own, harm = self._run_attack(attack), self._harmed_victims(attack.number)
            stolen = self._stolen()
            told = [*own, *stolen, *harm] if self._is_direct or attack.has_one_reading else harm
            if told:
                found.append(f"{attack}: {'; '.join(told)}")
        return found

    def _run_attack(self, attack: Attack) -> list[str]:
        expected = ["alive"] * attack.before + ["own"] + ["alive"] * attack.after
        try:
            with Connection(self._address, self._timeout(attack)) as connection:
                for index, packet in enumerate(attack.packets(self._accomplice_cookie)):
                    if index:
                        self._pause(connection)
                    connection.send(packet)
                answers = _answers(connection, expected, attack.method)
                if len(answers) == len(expected):
                    connection.send(SENTINEL)
                    expected = [*expected, "alive"]
                    answers += _answers(connection, ["alive"], attack.method)
        except NoAnswer as error:
            if self._waits_for_frames(attack):
                return []
            return [f"neither answered nor closed: {error}"]
        if self._is_plain:
            return self._left_open(attack, answers)
        return self._wrong(attack, answers, expected)

    def _timeout(self, attack: Attack) -> float:
        return _SHORT_TIMEOUT if self._waits_for_frames(attack) else TIMEOUT

    def _waits_for_frames(self, attack: Attack) -> bool:
        """Whether uvicorn may parse the rest as WebSocket frames and skip the application."""
        return self._is_plain and attack.offers_websocket

    def _left_open(self, attack: Attack, answers: Sequence[Answer]) -> list[str]:
        # An application can only make this response the last one. Requests that uvicorn
        # refuses, or passes to its WebSocket library, do not reach an application.
        if not self._is_direct:
            return []  # the proxy keeps its own connection to the client
        own = answers[attack.before : attack.before + 1]
        is_last = all(answer.closes or answer.status == 101 for answer in own)
        is_lost = attack.upgrade or attack.method == "CONNECT"
        return [] if is_last or not is_lost else ["the connection stayed open after its answer"]

    def _pause(self, connection: Connection) -> None:
        connection.wait_until_read()
        if not self._is_direct:
            time.sleep(_PAUSE)

    def _wrong(
        self, attack: Attack, answers: Sequence[Answer], expected: Sequence[str]
    ) -> list[str]:
        told = []
        for answer, kind in zip(answers, expected, strict=False):
            if kind == "alive" and (answer.status, answer.body) != (200, _ALIVE):
                told.append(f"answered in place of the next request: {answer.status}")
            if kind == "own" and answer.status == 101:
                told.append("the protocol changed")
            if kind == "own" and attack.target in {"/echo", "/public"} and answer.status == 200:
                told += self._wrong_length(attack, answer)
        ended_in_silence = answers and not answers[-1].closes and len(answers) < len(expected)
        if self._is_direct and ended_in_silence and attack.version == "1.1":
            told.append("the next request was dropped")
        return told

    def _wrong_length(self, attack: Attack, answer: Answer) -> list[str]:
        if attack.method in {"HEAD", "OPTIONS", "TRACE", "CONNECT"}:
            return []
        read, sent = answer.json()["length"], len(attack.body(self._accomplice_cookie))
        return [] if read == sent else [f"{read} of {sent} bytes of the body reached the handler"]

    def _harmed_victims(self, number: int) -> list[str]:
        """Checks that victims get their own data on connections that an attack has used."""
        if self._is_direct:
            return []
        told = []
        for victim in self._victims[number % 2 :: 2]:
            with Connection(self._address) as connection:
                for _ in range(2):  # HAProxy sends the second request over a pooled connection
                    connection.send(
                        request("GET", self._backend.oracle, headers=self._credential(victim))
                    )
                    answer = connection.answer()
                    if answer is None or answer.status != 200:
                        told.append(f"a victim got {answer and answer.status}")
                        break
                    if json.loads(answer.body).get("id") != victim.id:
                        told.append("a victim got the answer to another")
        return told

    def _credential(self, account: Account) -> dict[str, str]:
        return account.jwt if self._backend.kind == "verifying" else account.cookie

    def _stolen(self) -> list[str]:
        # `serve` logs the route without the query; only attacks request these two.
        return [
            f"the application saw {line}"
            for line in self._backend.seen()
            if STOLEN in line or line in {"DELETE /me", "GET /me/identity"}
        ]


def _answers(connection: Connection, kinds: Iterable[str], method: str) -> list[Answer]:
    found = []
    for kind in kinds:
        answer = connection.answer(method if kind == "own" else "GET")
        if answer is None:
            break
        found.append(answer)
        if answer.status == 101:
            break
    return found


def _line(account: Account) -> str:
    return f"Cookie: {account.cookie['Cookie']}\r\n"
