//! The map in Redis: one key an entry, which the server forgets at its time.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{Script, cmd};

use crate::{
    CoordinationError,
    server::{Operation, Question, Server, millis},
};

const CAPABILITY: &str = "ttl_map";
const GET: Operation = Operation::repeatable(CAPABILITY, "get");
const PUT: Operation = Operation::repeatable(CAPABILITY, "put");
const TOUCH: Operation = Operation::repeatable(CAPABILITY, "touch");
const RENEW: Operation = Operation::repeatable(CAPABILITY, "renew");
// What they answer tells winners from losers, so a second attempt would make a loser of the winner.
const PUT_IF_ABSENT: Operation = Operation::once(CAPABILITY, "put_if_absent");
const SWAP: Operation = Operation::once(CAPABILITY, "swap");
const REMOVE: Operation = Operation::once(CAPABILITY, "remove");
const TAKE: Operation = Operation::once(CAPABILITY, "take");

#[derive(Clone, Debug)]
pub(super) struct RemoteMap {
    server: Server,
    namespace: Arc<str>,
    swap: Arc<Script>,
}

impl RemoteMap {
    pub(super) fn new(server: Server, namespace: &str) -> Self {
        let swap = Arc::new(Script::new(include_str!("swap.lua")));
        Self { server, namespace: namespace.into(), swap }
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, CoordinationError> {
        self.server.ask(GET, Question::Command(cmd("GET").arg(self.key(key)))).await
    }

    pub(super) async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CoordinationError> {
        let mut set = cmd("SET");
        set.arg(self.key(key)).arg(&*value).arg("PX").arg(millis(ttl));
        self.server.ask(PUT, Question::Command(&set)).await
    }

    pub(super) async fn put_if_absent(
        &self,
        key: &str,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, CoordinationError> {
        let mut set = cmd("SET");
        set.arg(self.key(key)).arg(&*value).arg("NX").arg("PX").arg(millis(ttl));
        let set: Option<()> = self.server.ask(PUT_IF_ABSENT, Question::Command(&set)).await?;
        Ok(set.is_some())
    }

    pub(super) async fn swap(
        &self,
        key: &str,
        expected: &[u8],
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, CoordinationError> {
        let mut script = self.swap.prepare_invoke();
        script.key(self.key(key)).arg(expected).arg(value).arg(millis(ttl));
        self.server.ask(SWAP, Question::Script(&script)).await
    }

    pub(super) async fn remove(&self, key: &str) -> Result<bool, CoordinationError> {
        self.server.ask(REMOVE, Question::Command(cmd("DEL").arg(self.key(key)))).await
    }

    pub(super) async fn take(&self, key: &str) -> Result<Option<Bytes>, CoordinationError> {
        self.server.ask(TAKE, Question::Command(cmd("GETDEL").arg(self.key(key)))).await
    }

    pub(super) async fn touch(&self, key: &str, ttl: Duration) -> Result<bool, CoordinationError> {
        let mut expire = cmd("PEXPIRE");
        expire.arg(self.key(key)).arg(millis(ttl));
        self.server.ask(TOUCH, Question::Command(&expire)).await
    }

    pub(super) async fn renew(&self, key: &str, ttl: Duration) -> Result<Option<Bytes>, CoordinationError> {
        let mut get = cmd("GETEX");
        get.arg(self.key(key)).arg("PX").arg(millis(ttl));
        self.server.ask(RENEW, Question::Command(&get)).await
    }

    fn key(&self, key: &str) -> String {
        self.server.keys().name("map", &[&self.namespace, key])
    }
}
