//! The front door: MCP in, MCP out, every call authenticated, authorized, limited and recorded.
