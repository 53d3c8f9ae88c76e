use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use portico_process::Tasks;
use portico_proto_registry::audit_sink_service_client::AuditSinkServiceClient;
use portico_proto_registry::{AppendAuditRequest, AuditRecord};
use portico_transport::{Link, with_deadline, within};

use super::{AuditLog, Lot, Spool};

/// Most records that are sent at once.
const LOT: usize = 1_000;
/// Longest that the registry may take to acknowledge a lot.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long records gather before they are sent.
const GATHER: Duration = Duration::from_millis(200);
/// How long to wait after the registry did not take a lot.
const RETRY: Duration = Duration::from_secs(1);
/// How long the last records may take to go out at shutdown; what stays behind is sent at the next start.
const LAST: Duration = Duration::from_secs(3);

impl AuditLog {
    /// Sends the spool to the registry until shutdown. Ids make repeats harmless, so a lot is sent until it is taken.
    pub(crate) fn ship(&self, link: Link, tasks: &Tasks) {
        let shipper = Shipper { log: self.clone(), link };
        let token = tasks.shutdown_token();
        tasks.spawn::<_, Infallible>("ship-audit", async move {
            token.run_until_cancelled(shipper.run()).await;
            let _ = tokio::time::timeout(LAST, shipper.send_all()).await;
            Ok(())
        });
    }
}

struct Shipper {
    log: AuditLog,
    link: Link,
}

impl Shipper {
    async fn run(&self) {
        loop {
            if self.send_all().await {
                self.log.spool.grown.notified().await;
                tokio::time::sleep(GATHER).await;
            } else {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Whether everything that was there has been taken.
    async fn send_all(&self) -> bool {
        loop {
            match read(&self.log.spool).await {
                Ok(None) => return true,
                Ok(Some(mut lot)) => {
                    if let Err(status) = self.send(std::mem::take(&mut lot.records)).await {
                        tracing::warn!(error = %status, "the registry does not take audit records just now; they wait in the spool");
                        return false;
                    }
                    let pending = self.log.spool.acknowledge(&lot);
                    self.log.metrics.audit_pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
                }
                Err(error) => {
                    tracing::error!(error = %error, "the audit spool cannot be read");
                    return false;
                }
            }
        }
    }

    async fn send(&self, records: Vec<AuditRecord>) -> Result<(), tonic::Status> {
        let request = AppendAuditRequest { records };
        let mut client = AuditSinkServiceClient::new(self.link.clone());
        within(DEADLINE, client.append_audit(with_deadline(DEADLINE, request))).await.map(drop)
    }
}

/// Reads files where blocking is allowed.
async fn read(spool: &Arc<Spool>) -> Result<Option<Lot>, std::io::Error> {
    let spool = Arc::clone(spool);
    tokio::task::spawn_blocking(move || spool.next_lot(LOT)).await.map_err(std::io::Error::other)?
}
