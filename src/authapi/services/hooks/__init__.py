"""Hooks: functions of the application that authapi calls (`docs/hooks.md`)."""

from authapi.services.hooks.registry import (
    BeforeDelete,
    ClaimsHook,
    EventHook,
    Hooks,
    MayProvision,
    PasswordRule,
    ProvisionHook,
    ScopesHook,
)
from authapi.services.hooks.running import HookError, hook_of

__all__ = [
    "BeforeDelete",
    "ClaimsHook",
    "EventHook",
    "HookError",
    "Hooks",
    "MayProvision",
    "PasswordRule",
    "ProvisionHook",
    "ScopesHook",
    "hook_of",
]
