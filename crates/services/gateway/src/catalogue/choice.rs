//! Which instance of a server takes a call.

use std::sync::Arc;

use portico_ids::InstanceId;

use super::{Eras, Instance, Server};

impl Server {
    /// Picks the instance for a new call. Healthy ones come first, and of these the ones that are not ejected; but an instance
    /// whose ejection is over is tried by one call. `random` is any number.
    pub(crate) fn pick(&self, speaks: fn(Eras) -> bool, random: u32) -> Option<&Arc<Instance>> {
        self.to_be_tried(speaks)
            .or_else(|| self.pick_other(speaks, &[], random))
            .or_else(|| self.less_loaded(random, |instance| speaks(instance.eras)))
    }

    /// Picks another healthy instance for a call that those of `tried` took no connection for.
    pub(crate) fn pick_other(
        &self,
        speaks: fn(Eras) -> bool,
        tried: &[InstanceId],
        random: u32,
    ) -> Option<&Arc<Instance>> {
        let able = |instance: &Instance| instance.can_take(speaks) && !tried.contains(&instance.id);
        self.less_loaded(random, |instance| able(instance) && instance.traffic.is_good())
            .or_else(|| self.less_loaded(random, able))
    }

    /// This instance, if it is healthy and takes connections.
    pub(crate) fn good(&self, id: InstanceId, speaks: fn(Eras) -> bool) -> Option<&Arc<Instance>> {
        let mut instances = self.instances.iter().filter(|instance| self.enabled && instance.id == id);
        instances.find(|instance| instance.can_take(speaks) && instance.traffic.is_good())
    }

    /// Whether a good instance is left for a call that those of `tried` may take no connection for.
    pub(crate) fn has_good_other(&self, speaks: fn(Eras) -> bool, tried: &[InstanceId]) -> bool {
        let mut others = self.instances.iter().filter(|instance| !tried.contains(&instance.id));
        others.any(|instance| instance.can_take(speaks) && instance.traffic.is_good())
    }

    fn to_be_tried(&self, speaks: fn(Eras) -> bool) -> Option<&Arc<Instance>> {
        let mut instances = self.instances.iter().filter(|_| self.enabled);
        instances.find(|instance| instance.can_take(speaks) && instance.traffic.claim_trial())
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

impl Instance {
    fn can_take(&self, speaks: fn(Eras) -> bool) -> bool {
        self.healthy && speaks(self.eras)
    }
}

#[cfg(test)]
mod tests {
    use portico_proto_registry::InstanceStatus;
    use portico_proto_registry::catalogue_item::Value;

    use super::super::testing::{instance, server, server_id, snapshot};
    use super::*;

    /// The instance takes no connection.
    fn fail(instance: &Instance) {
        let begun = instance.traffic.begin();
        instance.traffic.not_connected(begun, 0);
        instance.traffic.end();
    }

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
        fail(&both.instances[0]);
        let second = both.instances[1].id;
        for random in [0, 1, 0xffff_ffff, 0x1_0001] {
            assert_eq!(both.pick(|_| true, random).unwrap().id, second);
        }
        fail(&both.instances[1]);
        assert!(both.pick(|_| true, 0).is_some(), "with no other left it is tried all the same");
    }

    #[tokio::test(start_paused = true)]
    async fn s2_08_an_instance_whose_ejection_is_over_is_tried_by_one_call_and_the_others_go_elsewhere() {
        let snap = snapshot(vec![
            server(1, "one"),
            instance(1, 1, "http://127.0.0.1:9/mcp"),
            instance(2, 1, "http://127.0.0.1:10/mcp"),
        ]);
        let both = snap.server(server_id(1)).unwrap();
        let (first, second) = (both.instances[0].id, both.instances[1].id);
        fail(&both.instances[0]);
        tokio::time::advance(std::time::Duration::from_secs(10)).await;
        assert_eq!(
            both.pick_other(|_| true, &[], 0).unwrap().id,
            second,
            "a call that failed elsewhere tries nothing"
        );
        assert_eq!(both.pick(|_| true, 0).unwrap().id, first);
        for random in [0, 1, 0xffff_ffff, 0x1_0001] {
            assert_eq!(both.pick(|_| true, random).unwrap().id, second);
        }
        let begun = both.instances[0].traffic.begin();
        assert!(both.instances[0].traffic.answered(begun));
        both.instances[1].traffic.begin();
        both.instances[1].traffic.begin();
        assert_eq!(both.pick(|_| true, 0).unwrap().id, first, "it takes its part again");
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
        fail(&all.instances[1]);
        assert_eq!(all.pick_other(|_| true, &[first], 7).unwrap().id, second, "it may be back");
        assert!(all.pick_other(|_| true, &[first, second], 7).is_none(), "not the unhealthy one");
    }
}
