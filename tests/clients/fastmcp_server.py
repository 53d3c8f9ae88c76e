"""A server as its authors would write it with fastmcp: fastmcp_server.py PORT."""

import sys

from fastmcp import Context, FastMCP

mcp = FastMCP("weather", instructions="Ask for a forecast.")


@mcp.tool
def forecast(city: str, days: int = 1) -> dict[str, object]:
    """The weather of the next days."""
    return {"city": city, "days": days, "sky": "clear"}


@mcp.tool
async def count(steps: int, ctx: Context) -> str:
    """Counts and reports how far it is."""
    for step in range(steps):
        await ctx.report_progress(step + 1, steps)
    return f"counted {steps}"


@mcp.tool
def fail() -> None:
    """Always fails."""
    raise ValueError("no weather today")


@mcp.resource("weather://stations")
def stations() -> str:
    return "north, south"


@mcp.resource("weather://stations/{name}")
def station(name: str) -> str:
    return f"station {name}"


@mcp.prompt
def report(city: str) -> str:
    return f"Write a weather report for {city}."


mcp.run(transport="http", host="127.0.0.1", port=int(sys.argv[1]), show_banner=False, log_level="warning")
