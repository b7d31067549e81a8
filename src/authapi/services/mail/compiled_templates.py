"""Compiled templates of mails and pages: each is compiled once in a process.

Pages have an environment of Jinja for each language, and each would compile a template to the same
code. That takes some 20 ms, on the event loop.
"""

from types import CodeType

from jinja2 import BytecodeCache
from jinja2.bccache import Bucket


class CompiledTemplates(BytecodeCache):
    """The compiled templates of environments that have the same options.

    A template whose file has changed is compiled again.
    """

    def __init__(self) -> None:
        self._compiled: dict[str, tuple[str, CodeType]] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        checksum, code = self._compiled.get(bucket.key, (None, None))
        if checksum == bucket.checksum:
            bucket.code = code

    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.code is not None:
            self._compiled[bucket.key] = (bucket.checksum, bucket.code)


COMPILED_MAILS = CompiledTemplates()
COMPILED_PAGES = CompiledTemplates()
