"""Hooks: functions of the application that authapi calls (`docs/hooks.md`)."""

from authapi.services.hooks.registry import (
    BeforeDelete,
    ClaimsHook,
    EventHook,
    Hooks,
    PasswordRule,
    ScopesHook,
)
from authapi.services.hooks.running import HookError, hook_of

__all__ = [
    "BeforeDelete",
    "ClaimsHook",
    "EventHook",
    "HookError",
    "Hooks",
    "PasswordRule",
    "ScopesHook",
    "hook_of",
]
