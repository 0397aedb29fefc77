"""What the configurations of all recipes are made of: fields with a help text, and a check that names the setting.

Nothing heavy is imported here, because the command line reads configurations to know its flags.
"""

from collections.abc import Callable, Mapping
from dataclasses import field, fields, replace
from typing import Any, TypeVar

from wikirl.errors import ConfigError

Config = TypeVar("Config", bound=Any)


def setting(default: Any, text: str) -> Any:
    """A field with its help text; None means that recipe, data or environment decide."""
    return field(default=default, metadata={"help": text})


def require(config: object, names: tuple[str, ...], holds: Callable[[Any], bool], words: str) -> None:
    """Refuse a configuration in which a named setting is neither None nor as it must be.

    Raises:
        ConfigError: names the setting.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not holds(value):
            raise ConfigError(f"expected {name} {words}; found {value}")


def filled(config: Config, defaults: Mapping[str, Any]) -> Config:
    """The configuration with a default in place of every None that has one."""
    empty = {item.name for item in fields(config) if getattr(config, item.name) is None}
    return replace(config, **{name: value for name, value in defaults.items() if name in empty})
