//! Names of methods and notifications.

/// Opens a session (up to 2025-11-25).
pub const INITIALIZE: &str = "initialize";
/// The client has taken in the answer to `initialize`.
pub const INITIALIZED: &str = "notifications/initialized";
/// What a stateless server speaks and can do.
pub const DISCOVER: &str = "server/discover";
/// Liveness (up to 2025-11-25).
pub const PING: &str = "ping";
/// Lists tools.
pub const TOOLS_LIST: &str = "tools/list";
/// Calls a tool.
pub const TOOLS_CALL: &str = "tools/call";
/// Lists prompts.
pub const PROMPTS_LIST: &str = "prompts/list";
/// Fills in a prompt.
pub const PROMPTS_GET: &str = "prompts/get";
/// Lists resources.
pub const RESOURCES_LIST: &str = "resources/list";
/// Lists resource templates.
pub const RESOURCE_TEMPLATES_LIST: &str = "resources/templates/list";
/// Reads a resource.
pub const RESOURCES_READ: &str = "resources/read";
/// Asks for updates of a resource (up to 2025-11-25).
pub const RESOURCES_SUBSCRIBE: &str = "resources/subscribe";
/// Ends such updates.
pub const RESOURCES_UNSUBSCRIBE: &str = "resources/unsubscribe";
/// Completes an argument.
pub const COMPLETE: &str = "completion/complete";
/// Sets the level of log messages (up to 2025-11-25).
pub const SET_LEVEL: &str = "logging/setLevel";
/// Opens a stream of change notifications (2026-07-28).
pub const LISTEN: &str = "subscriptions/listen";
/// First message of such a stream.
pub const LISTEN_ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
/// The sender no longer waits for a request.
pub const CANCELLED: &str = "notifications/cancelled";
/// How far a request has come.
pub const PROGRESS: &str = "notifications/progress";
/// A log message.
pub const LOG_MESSAGE: &str = "notifications/message";
/// The list of tools changed.
pub const TOOLS_CHANGED: &str = "notifications/tools/list_changed";
/// The list of prompts changed.
pub const PROMPTS_CHANGED: &str = "notifications/prompts/list_changed";
/// The list of resources changed.
pub const RESOURCES_CHANGED: &str = "notifications/resources/list_changed";
/// A subscribed resource changed.
pub const RESOURCE_UPDATED: &str = "notifications/resources/updated";
/// The list of roots changed.
pub const ROOTS_CHANGED: &str = "notifications/roots/list_changed";
/// Server to client: asks its user.
pub const ELICIT: &str = "elicitation/create";
/// An URL elicitation ended.
pub const ELICITATION_COMPLETE: &str = "notifications/elicitation/complete";
/// Server to client: asks its model.
pub const SAMPLE: &str = "sampling/createMessage";
/// Server to client: asks for its roots.
pub const ROOTS_LIST: &str = "roots/list";
/// State of a task.
pub const TASKS_GET: &str = "tasks/get";
/// Outcome of a task (2025-11-25).
pub const TASKS_RESULT: &str = "tasks/result";
/// All tasks (2025-11-25).
pub const TASKS_LIST: &str = "tasks/list";
/// Ends a task.
pub const TASKS_CANCEL: &str = "tasks/cancel";
/// Sends input to a task (SEP-2663).
pub const TASKS_UPDATE: &str = "tasks/update";
