import logging

import dagster as dg
import pytest

from pm_pipeline.defs import progress
from pm_pipeline.defs.progress import counted, counter, terminal


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(("every", "lines"), [(0.0, ["x: 1 of 3", "x: 2 of 3", "x: 3 of 3"]), (3600.0, [])])
def test_pieces_are_counted_now_and_then(
    monkeypatch: pytest.MonkeyPatch, every: float, lines: list[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", every)
    log = Log()
    assert list(counted(log, "x", "abc", 3)) == ["a", "b", "c"]
    assert log.lines == lines


def test_a_piece_counts_when_it_is_done_and_not_when_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    log = Log()
    pieces = counted(log, "x", "ab", 2)
    next(pieces)
    assert log.lines == []
    counter(log, "y", 1)(None)
    assert log.lines == ["y: 1 of 1"]


def test_the_terminal_prints_what_ops_say_and_nothing_of_dagsters_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @dg.op
    def speak(context: dg.OpExecutionContext) -> None:
        context.log.info("hello")
        context.log.debug("too fine")

    @dg.job(logger_defs={"terminal": terminal})
    def talk() -> None:
        speak()

    talk.execute_in_process(run_config={"loggers": {"terminal": {}}})
    logging.getLogger("other").info("not ours")
    assert capsys.readouterr().err == "  hello\n"
