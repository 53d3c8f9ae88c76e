"""The clocks of two machines differ."""

from pathlib import Path

from stage import Stage, demand

LIBRARIES = ("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1")
HARMLESS, HARMFUL = (45, -45), (-120,)


def skew(stage: Stage) -> str:
    """±45 s on one gateway have no effect; a clock two minutes behind refuses tokens and says why."""
    library = next((path for path in LIBRARIES if Path(path).exists()), None)
    demand(library is not None, "libfaketime is missing: apt-get install faketime")
    name, platform = "gateway-2", stage.platform
    process = platform.process(name)
    usual = process.command
    try:
        for seconds in HARMLESS:
            restart_at(platform, name, usual, library, seconds)
            load = stage.load(rate=200, seconds=3)
            load.unfailing()
            load.check_records()
        for seconds in HARMFUL:
            restart_at(platform, name, usual, library, seconds)
            status, answer = stage.call(name, stage.token())
            # By the token's time at first; by the feed's, whatever the token says, once that has told the time often enough.
            demand(status in (401, 503), f"a gateway that is {seconds} s off answered {status}: {answer}")
            message = answer["error"]["message"]
            demand("clock" in message, f"the refusal does not name the clock: {message}")
            demand(stage.metric(name, "portico_gateway_clock_skew_refusals_total") > 0, "no metric counts refusals for skew")
            status, _ = stage.call("gateway-1", stage.token())
            demand(status == 200, "the other gateway refuses too")
    finally:
        process.command = usual
        platform.restart(name)
    return f"±45 s: no call failed; −120 s: refused with “{message[:90]}”, and counted; the other gateway went on"


def restart_at(platform, name: str, command: list, library: str, seconds: int):
    """Starts it with a clock that is off by so much; its timers run as usual."""
    process = platform.process(name)
    process.command = ["env", f"LD_PRELOAD={library}", f"FAKETIME={seconds:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC=1", *command]
    platform.restart(name)
