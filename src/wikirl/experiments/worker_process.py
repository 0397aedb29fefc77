"""A process that makes runs, one after the other: `python -P -m wikirl.experiments.worker_process CORE…`.

It reads a task a line from stdin, `{"plan": …, "machine": …}`, and answers each with a line on stdout, `{"refused":
null}`, or in place of null the one line that says what the user can mend. What a run prints goes to the log beside its
folder. A bug ends the process, with its traceback in that log. A signal saves the run and ends the process, and so
does the end of stdin, because then nobody is left to answer. Whoever asks is processes.py.
"""

import json
import os
import signal
import sys
import threading
from queue import SimpleQueue
from typing import Any

INTERRUPTED = 130  # exit status, as a shell's after Ctrl-C


def main(cores: list[int]) -> int:
    """Work until there is nobody to work for.

    Args:
        cores: Where this process may run; anywhere if there are none.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    answers = os.dup(1)  # not for whatever else is printed in this process
    tasks: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_read, args=(tasks,), daemon=True).start()
    try:
        while True:
            task = tasks.get()
            os.write(answers, (json.dumps({"refused": _make(task)}) + "\n").encode())
    except KeyboardInterrupt:
        return INTERRUPTED


def _read(tasks: "SimpleQueue[dict[str, Any]]") -> None:
    """Pass tasks on, and interrupt the main thread, once, where they end."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:  # no buffer, hence no lock at exit
        for line in stdin:
            tasks.put(json.loads(line))
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    signal.pthread_kill(main_thread, signal.SIGINT)


def _make(task: dict[str, Any]) -> str | None:
    """Make a run; what the user can mend is returned as one line."""
    from wikirl.errors import WikiRLError, refusal_of_the_system
    from wikirl.experiments.worker import Machine, make_run, plan_from_json

    plan = plan_from_json(task["plan"])
    plan.folder.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    with plan.log.open("ab") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    try:
        make_run(plan, Machine(**task["machine"]))
    except WikiRLError as error:
        return " ".join(str(error).split())
    except Exception as error:
        if not (refusal := refusal_of_the_system(error)):
            raise
        return refusal
    return None


if __name__ == "__main__":
    sys.exit(main([int(word) for word in sys.argv[1:]]))
