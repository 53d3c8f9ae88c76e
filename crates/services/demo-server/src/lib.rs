//! The MCP server that a newcomer calls first, in both eras.
