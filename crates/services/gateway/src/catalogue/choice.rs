//! Which instance of a server takes a call.

use std::sync::Arc;

use portico_ids::InstanceId;

use super::{Eras, Instance, Server};

impl Server {
    /// Picks the instance for a new call. Healthy ones come first, and of these the ones that took their last connection;
    /// `random` is any number.
    pub(crate) fn pick(&self, speaks: fn(Eras) -> bool, random: u32) -> Option<&Arc<Instance>> {
        self.pick_other(speaks, &[], random)
            .or_else(|| self.less_loaded(random, |instance| speaks(instance.eras)))
    }

    /// Picks another healthy instance for a call that those of `tried` took no connection for.
    pub(crate) fn pick_other(
        &self,
        speaks: fn(Eras) -> bool,
        tried: &[InstanceId],
        random: u32,
    ) -> Option<&Arc<Instance>> {
        let able =
            |instance: &Instance| instance.healthy && speaks(instance.eras) && !tried.contains(&instance.id);
        self.less_loaded(random, |instance| able(instance) && !instance.traffic.is_ejected())
            .or_else(|| self.less_loaded(random, able))
    }

    /// The less loaded of two candidates (power of two choices).
    fn less_loaded(&self, random: u32, able: impl Fn(&Instance) -> bool) -> Option<&Arc<Instance>> {
        if !self.enabled {
            return None;
        }
        let candidates: Vec<&Arc<Instance>> =
            self.instances.iter().filter(|instance| able(instance)).collect();
        let count = u32::try_from(candidates.len()).ok()?;
        if count <= 1 {
            return candidates.first().copied();
        }
        let first = random % count;
        let second = (first + 1 + (random >> 16) % (count - 1)) % count;
        let pair = [candidates[first as usize], candidates[second as usize]];
        pair.into_iter().min_by_key(|instance| instance.traffic.in_flight())
    }
}

#[cfg(test)]
mod tests {
    use portico_proto_registry::InstanceStatus;
    use portico_proto_registry::catalogue_item::Value;

    use super::super::testing::{instance, server, server_id, snapshot};

    #[test]
    fn unhealthy_instances_are_used_only_when_no_other_is_left() {
        let mut sick = instance(2, 1, "http://127.0.0.1:10/mcp");
        if let Some(Value::Instance(instance)) = &mut sick.1.value {
            instance.status = InstanceStatus::Unhealthy.into();
        }
        let snap = snapshot(vec![server(1, "one"), instance(1, 1, "http://127.0.0.1:9/mcp"), sick.clone()]);
        let both = snap.server(server_id(1)).unwrap();
        for random in [0, 1, 0xffff_ffff, 0x1_0001] {
            assert_eq!(both.pick(|_| true, random).unwrap().uri.port_u16(), Some(9));
        }
        let snap = snapshot(vec![server(1, "one"), sick]);
        assert!(snap.server(server_id(1)).unwrap().pick(|_| true, 0).is_some());
    }

    #[tokio::test]
    async fn s2_08_an_instance_that_takes_no_connection_is_passed_over_while_another_one_does() {
        let snap = snapshot(vec![
            server(1, "one"),
            instance(1, 1, "http://127.0.0.1:9/mcp"),
            instance(2, 1, "http://127.0.0.1:10/mcp"),
        ]);
        let both = snap.server(server_id(1)).unwrap();
        both.instances[0].traffic.eject();
        let second = both.instances[1].id;
        for random in [0, 1, 0xffff_ffff, 0x1_0001] {
            assert_eq!(both.pick(|_| true, random).unwrap().id, second);
        }
        both.instances[1].traffic.eject();
        assert!(both.pick(|_| true, 0).is_some(), "with no other left it is tried all the same");
    }

    #[tokio::test]
    async fn s2_08_another_instance_is_healthy_and_was_not_tried() {
        let mut sick = instance(3, 1, "http://127.0.0.1:11/mcp");
        if let Some(Value::Instance(instance)) = &mut sick.1.value {
            instance.status = InstanceStatus::Unhealthy.into();
        }
        let items = vec![
            server(1, "one"),
            instance(1, 1, "http://127.0.0.1:9/mcp"),
            instance(2, 1, "http://127.0.0.1:10/mcp"),
            sick,
        ];
        let snap = snapshot(items);
        let all = snap.server(server_id(1)).unwrap();
        let (first, second) = (all.instances[0].id, all.instances[1].id);
        assert_eq!(all.pick_other(|_| true, &[first], 7).unwrap().id, second);
        all.instances[1].traffic.eject();
        assert_eq!(all.pick_other(|_| true, &[first], 7).unwrap().id, second, "it may be back");
        assert!(all.pick_other(|_| true, &[first, second], 7).is_none(), "not the unhealthy one");
    }
}
