//! MCP and JSON-RPC wire types, borrowed and strict.
