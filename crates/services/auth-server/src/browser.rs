//! What a browser carries between pages: a session, a form token, an authorization under way.

pub(crate) mod cookies;
pub(crate) mod csrf;
pub(crate) mod flow;
pub(crate) mod known;
pub(crate) mod session;
