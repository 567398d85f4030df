"""`python agent.pyz COMMAND`: prints one line of JSON; the commands are in `docs/protection.md`.

Imports are made where they are needed: `hello` runs in every readiness check and must stay quick.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Callable

from dumont.agent.errors import AgentError

_LONGEST_CONFIGURATION = 1 << 20
_LONGEST_NOTICE = 1000


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    command = _COMMANDS.get(words[0]) if words else None
    if command is None:
        return _usage()
    try:
        result = command(words[1:])
    except _Usage as error:
        return _usage(str(error))
    except AgentError as error:
        _print(error.document())
        return 1
    except BrokenPipeError:
        return 1
    except Exception as error:
        import traceback

        traceback.print_exc()
        _print(AgentError(f"{type(error).__name__}: {error}").document())
        return 1
    if isinstance(result, int):
        return result
    if result is not None:
        _print(result)
    return 0


def _hello(words: list[str]) -> dict[str, object]:
    _options(words)
    from dumont.agent.hello import hello

    return hello()


def _apply(words: list[str]) -> dict[str, Any]:
    _options(words)
    from dumont.agent import commands

    return commands.apply(_paths(), sys.stdin.read(_LONGEST_CONFIGURATION))


def _status(words: list[str]) -> dict[str, Any]:
    _options(words)
    from dumont.agent import commands

    return commands.status(_paths())


def _stop(words: list[str]) -> dict[str, Any]:
    _options(words)
    from dumont.agent import commands

    return commands.stop(_paths())


def _resume(words: list[str]) -> dict[str, Any]:
    _options(words)
    from dumont.agent import commands

    return commands.resume(_paths())


def _supervise(words: list[str]) -> int:
    _options(words)
    from dumont.agent import daemon

    return daemon.supervise(_paths())


def _worker(words: list[str]) -> int:
    _options(words)
    from dumont.agent import worker

    return worker.main(_paths())


def _flush(words: list[str]) -> dict[str, Any]:
    timeout_s = _options(words, timeout=float).get("timeout", 600.0)
    from dumont.agent import commands

    return commands.ask(_paths(), "flush", {"timeout_s": timeout_s}, timeout_s=timeout_s + 10)


def _restore(words: list[str]) -> dict[str, Any]:
    options = _options(words, streams=int, final=None)
    from dumont.agent import commands

    arguments = {"streams": options.get("streams"), "final": options.get("final", False)}
    return commands.ask(_paths(), "restore", arguments, timeout_s=None)


def _manifest(words: list[str]) -> int:
    options = _options(words, hash=None)
    from dumont.agent import manifest

    return manifest.write(_paths().workspace, sys.stdout.buffer, hashed=options.get("hash", False))


def _divergence(words: list[str]) -> dict[str, Any]:
    _options(words)
    from dumont.agent import divergence

    return divergence.run(_paths())


def _receive(words: list[str]) -> int:
    epoch = _options(words, epoch=int)
    if "epoch" not in epoch:
        raise _Usage("receive needs --epoch")
    from dumont.agent import receive

    return receive.main(_paths(), epoch=epoch["epoch"])


def _rtt(words: list[str]) -> dict[str, Any]:
    options = _options(words, host=str, port=int)
    if len(options) < 2:
        raise _Usage("rtt needs --host and --port")
    from dumont.agent import rtt

    return rtt.measure(options["host"], options["port"])


def _fence(words: list[str]) -> dict[str, Any]:
    options = _options(words, epoch=int)
    if "epoch" not in options:
        raise _Usage("fence needs --epoch")
    from dumont.agent import commands, config

    given = config.to_document(sys.stdin.read(_LONGEST_CONFIGURATION))
    arguments = {"epoch": options["epoch"], "sync_public_key": given.get("sync_public_key")}
    return commands.ask(_paths(), "fence", arguments)


def _observe(words: list[str]) -> dict[str, Any]:
    _options(words)
    from dumont.agent import commands

    return commands.observe(_paths())


def _tell(words: list[str]) -> dict[str, Any]:
    _options(words)
    from dumont.agent import commands

    return commands.tell(_paths(), sys.stdin.read(_LONGEST_NOTICE))


def _keep_alive(words: list[str]) -> dict[str, Any]:
    from dumont.agent import activity

    paths = _paths()
    paths.base.mkdir(mode=0o700, exist_ok=True)
    try:
        return activity.keep_alive(paths.base, " ".join(words))
    except ValueError as error:
        raise _Usage(str(error)) from None


def _asks(
    name: str, *required: str, **options: Callable[[str], Any] | None
) -> Callable[[list[str]], dict[str, Any]]:
    """A command that the daemon serves under the same name; options become its arguments."""

    def command(words: list[str]) -> dict[str, Any]:
        arguments = _options(words, **options)
        for option in required:
            if option not in arguments:
                raise _Usage(f"{name} needs --{option}")
        from dumont.agent import commands

        return commands.ask(_paths(), name, arguments)

    return command


class _Usage(Exception):
    """The words are wrong."""


def _options(words: list[str], **known: Callable[[str], Any] | None) -> dict[str, Any]:
    """Read `--name value` (or `--name` alone, where the type is None)."""
    found: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name = word[2:] if word.startswith("--") else ""
        if name not in known:
            raise _Usage(f"unknown: {word}")
        kind = known[name]
        if kind is None:
            found[name] = True
            continue
        if not rest:
            raise _Usage(f"{word} needs a value")
        value = rest.pop(0)
        try:
            found[name] = kind(value)
        except ValueError:
            raise _Usage(f"{word}: not a number: {value}") from None
    return found


def _paths() -> Any:
    from dumont.agent.paths import Paths

    return Paths()


def _usage(problem: str = "") -> int:
    hidden = ("supervise", "worker")
    names = ", ".join(name for name in _COMMANDS if name not in hidden)
    if problem:
        print(problem, file=sys.stderr)  # noqa: T201
    print(f"usage: agent COMMAND; commands: {names}", file=sys.stderr)  # noqa: T201
    return 2


def _print(document: Any) -> None:
    print(json.dumps(document), flush=True)  # noqa: T201


_COMMANDS: dict[str, Callable[[list[str]], Any]] = {
    "hello": _hello,
    "apply": _apply,
    "status": _status,
    "stop": _stop,
    "resume": _resume,
    "flush": _flush,
    "restore": _restore,
    "manifest": _manifest,
    "divergence": _divergence,
    "redirect": _asks("redirect", "cause", cause=str),
    "fence": _fence,
    "sessions": _asks("sessions"),
    "quiesce": _asks("quiesce", cut=None),
    "unquiesce": _asks("unquiesce"),
    "hand-back": _asks("hand-back", "epoch", "host", "port", epoch=int, host=str, port=int),
    "wake": _asks("wake"),
    "observe": _observe,
    "tell": _tell,
    "keep-alive": _keep_alive,
    "rtt": _rtt,
    "receive": _receive,
    "supervise": _supervise,
    "worker": _worker,
}


if __name__ == "__main__":
    sys.exit(main())
