//! What kind of Redis it is: whether one connection reaches every key.

use std::collections::{BTreeMap, BTreeSet};

use redis::{FromRedisValue as _, Value, aio::MultiplexedConnection};

/// A server that answers, but is of no use however long one waits.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error(
        "the URL leads to a Redis Cluster whose keys are spread over {masters} masters, and a connection reaches the keys \
         of one: give the URL of a Redis without cluster mode, or of a cluster of one shard"
    )]
    SeveralMasters { masters: usize },
    #[error(
        "the URL leads to a Redis Sentinel, which holds no keys: give an address that always leads to the master, such \
         as a proxy or a name that the failover changes"
    )]
    Sentinel,
}

/// Refuses a server on which some keys could not be reached. One that does not say what it is passes: what it cannot do
/// shows when it is asked for it.
pub(super) async fn check(connection: &mut MultiplexedConnection) -> Result<(), Unusable> {
    let Ok(hello) = redis::cmd("HELLO").query_async::<BTreeMap<String, Value>>(connection).await else {
        return Ok(());
    };
    let mode = hello.get("mode").and_then(|mode| String::from_redis_value_ref(mode).ok());
    match mode.as_deref() {
        Some("sentinel") => Err(Unusable::Sentinel),
        Some("cluster") => {
            let slots = redis::cmd("CLUSTER").arg("SLOTS").query_async::<Vec<Value>>(connection).await;
            let masters: BTreeSet<_> = slots.iter().flatten().filter_map(master).collect();
            if masters.len() > 1 { Err(Unusable::SeveralMasters { masters: masters.len() }) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

/// The id of the master of a range of slots: first slot, last slot, `[address, port, id, …]`, its replicas.
fn master(range: &Value) -> Option<String> {
    let Value::Array(range) = range else { return None };
    let Some(Value::Array(node)) = range.get(2) else { return None };
    String::from_redis_value_ref(node.get(2)?).ok()
}
