use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use portico_process::{ReadinessCheck, Tasks};
use tokio_util::sync::CancellationToken;

use super::{box_of, inbox, locked};
use crate::engine::Engine;

/// How often a replica says that it lives.
const BEAT: Duration = Duration::from_secs(5);
/// How long to wait before the letter box is opened again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked whether the last call has ended, once the process shuts down.
const LOOK: Duration = Duration::from_millis(50);

/// Receives and sends letters, and keeps the list of replicas, until shutdown has been asked for and no call is left whose
/// agent could come back, or cancel it, elsewhere.
///
/// Ready once others can write to it, so that its first call is found from elsewhere, or once that has failed.
pub(crate) fn spawn(engine: &Arc<Engine>, tasks: &Tasks, ready: ReadinessCheck) {
    let drained = CancellationToken::new();
    let (watched, shutdown, token) = (Arc::clone(engine), tasks.shutdown_token(), drained.clone());
    tasks.spawn::<_, Infallible>("watch-calls", async move {
        shutdown.cancelled().await;
        while watched.load.calls() > 0 {
            tokio::time::sleep(LOOK).await;
        }
        token.cancel();
        Ok(())
    });
    let (reader, token) = (Arc::clone(engine), drained.clone());
    tasks.spawn::<_, Infallible>("read-letters", async move {
        token.run_until_cancelled(read(&reader, ready)).await;
        Ok(())
    });
    let unsent = locked(&engine.replicas.unsent).take();
    if let Some(mut unsent) = unsent {
        let (writer, token) = (Arc::clone(engine), drained);
        tasks.spawn::<_, Infallible>("send-letters", async move {
            let send = async {
                while let Some(letter) = unsent.recv().await {
                    writer.replicas.send_outgoing(letter).await;
                }
            };
            token.run_until_cancelled(send).await;
            // What was said last is still sent.
            while let Ok(letter) = unsent.try_recv() {
                writer.replicas.send_outgoing(letter).await;
            }
            Ok(())
        });
    }
    let (engine, shutdown) = (Arc::clone(engine), tasks.shutdown_token());
    tasks.spawn::<_, Infallible>("say-alive", async move {
        shutdown.run_until_cancelled(say_alive(&engine)).await;
        Ok(())
    });
}

async fn read(engine: &Arc<Engine>, ready: ReadinessCheck) {
    let mut told = false;
    loop {
        let inbox = engine.replicas.mailbox.receive(&box_of(&engine.replicas.id)).await;
        ready.ready();
        match inbox {
            Ok(mut inbox) => {
                told = false;
                while let Some(letter) = inbox.next().await {
                    inbox::receive(engine, &letter);
                }
            }
            Err(error) if !std::mem::replace(&mut told, true) => {
                tracing::warn!(error = %error, "letters of other replicas cannot be received");
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn say_alive(engine: &Arc<Engine>) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut works = true;
    loop {
        beat.tick().await;
        let beaten = match engine.replicas.beat().await {
            Ok(()) => restore(engine).await,
            Err(error) => Err(error),
        };
        match &beaten {
            Ok(()) if !works => tracing::info!("replicas hear of one another again"),
            Err(error) if works => {
                tracing::warn!(error = %error, "replicas do not hear of one another; sessions at hand go on");
            }
            _ => {}
        }
        works = beaten.is_ok();
        engine.recorder.metrics.coordination_down.set(i64::from(!works));
    }
}

/// Puts back what a shared map that was emptied has lost.
async fn restore(engine: &Arc<Engine>) -> Result<(), portico_coordination::CoordinationError> {
    if let Some(restored) = engine.sessions.restore_if_lost().await? {
        tracing::warn!(restored, "the shared map was emptied; sessions at hand were put back");
    }
    Ok(())
}
