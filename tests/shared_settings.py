"""Shares what pydantic-settings finds out about the fields of settings.

For each `Settings(...)`, it looks at the annotations of over a hundred fields, always with the same
result. This takes 5 ms, and most tests make settings. Their values are read and validated for each.

This patches private names of pydantic-settings: it is a plugin of the option `--shared-analysis`.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

_Names = list[tuple[str, str, bool]]


@pytest.fixture(scope="session", autouse=True)
def _shared_settings() -> Iterator[None]:
    is_complex, extract = EnvSettingsSource._field_is_complex, EnvSettingsSource._extract_field_info
    # The entries hold their field, so that no other field gets its `id`.
    complexities = dict[int, tuple[FieldInfo, tuple[bool, bool]]]()
    names = dict[object, tuple[FieldInfo, _Names]]()

    def field_is_complex(self: EnvSettingsSource, field: FieldInfo) -> tuple[bool, bool]:
        if id(field) not in complexities:
            complexities[id(field)] = field, is_complex(self, field)
        return complexities[id(field)][1]

    def extract_field_info(
        self: EnvSettingsSource, field: FieldInfo, field_name: str, *model_config: Any
    ) -> _Names:
        if model_config:
            return extract(self, field, field_name, *model_config)
        options = self.case_sensitive, self.env_prefix, self.env_prefix_target
        key = id(field), field_name, self.settings_cls, options
        if key not in names:
            names[key] = field, extract(self, field, field_name)
        return names[key][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EnvSettingsSource, "_field_is_complex", field_is_complex)
        patch.setattr(EnvSettingsSource, "_extract_field_info", extract_field_info)
        yield
