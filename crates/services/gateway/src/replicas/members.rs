use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use portico_coordination::CoordinationError;

use super::Replicas;
use super::letter::{Body, Hello};

/// Where the replicas are listed.
const LIST: &str = "members";
const LIST_TTL: Duration = Duration::from_hours(24);
/// Who writes the list holds this lease.
const LEASE: &str = "gateway/members";
const LEASE_TTL: Duration = Duration::from_secs(5);
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(20);
/// A replica that has not been heard of for so long is taken off the list. Far longer than clocks may differ: one that is
/// listed and dead costs a letter to nobody, one that lives and is not listed would miss letters.
const SILENT: TimeDelta = TimeDelta::seconds(180);

/// When each replica said that it lives, in seconds.
type List = BTreeMap<String, i64>;

impl Replicas {
    /// Says that this replica lives, and learns of others; newly met ones are greeted, so that they know at once too.
    pub(super) async fn beat(&self) -> Result<(), CoordinationError> {
        let mut lease = None;
        for _ in 0..TRIES {
            lease = self.leases.acquire(LEASE, &self.id, LEASE_TTL).await?;
            if lease.is_some() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let mut list = self.list().await?;
        if let Some(lease) = lease {
            let now = self.clock.now();
            list.insert(self.id.to_string(), now.timestamp());
            list.retain(|_, seen| *seen > (now - SILENT).timestamp());
            self.write(&list).await?;
            self.leases.release(&lease).await?;
        }
        for met in self.meet(list.into_keys()) {
            self.send(&met, Body::Hello(Hello {})).await;
        }
        Ok(())
    }

    async fn list(&self) -> Result<List, CoordinationError> {
        let stored = self.map.get(LIST).await?;
        Ok(stored.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    async fn write(&self, list: &List) -> Result<(), CoordinationError> {
        self.map.put(LIST, Bytes::from(serde_json::to_vec(list).unwrap_or_default()), LIST_TTL).await
    }
}
