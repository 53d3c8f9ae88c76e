//! Endpoints of several servers, and `/mcp`: merged lists, names that find their server, streams of all members.
//!
//! An endpoint with one member, plain names and nothing chosen never comes here: its bytes pass through.
//!
//! - [`scope`]: which members a caller has, and under which prefix.
//! - [`names`]: what agents call a tool or prompt of a member, and back.
//! - [`lists`]: what members list, fetched together with a deadline each, kept within a byte budget.
//! - [`merge`]: one page out of all members' lists; definitions keep their bytes, only the name is spliced.
//! - [`route`]: which member a name or URI belongs to. What was not chosen does not exist (RS-35).
//! - [`capabilities`]: what `initialize` and `server/discover` say of the members that answered.
//! - [`session`], [`stateless`]: the two eras. [`streams`]: standing streams of all members as one.
//!
//! A member that is dead, slow or of the other era is left out, and `_meta` says so under `portico/warnings`.
