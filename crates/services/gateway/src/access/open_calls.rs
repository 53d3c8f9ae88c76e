use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portico_ids::PrincipalId;

/// How many calls and streams each principal has open: a rate alone does not bound what stays open.
#[derive(Debug)]
pub(crate) struct OpenCalls {
    most: u32,
    open: Mutex<HashMap<PrincipalId, u32>>,
}

/// One of them; dropping it makes room for another.
#[derive(Debug)]
pub(crate) struct OpenCall {
    calls: Arc<OpenCalls>,
    principal: PrincipalId,
}

impl OpenCalls {
    pub(crate) fn new(most: u32) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default() })
    }

    /// Takes a place; `None` if the principal has as many open as it may.
    pub(crate) fn open(self: &Arc<Self>, principal: &PrincipalId) -> Option<OpenCall> {
        let mut open = self.all();
        let count = open.entry(principal.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(OpenCall { calls: Arc::clone(self), principal: principal.clone() })
    }

    fn all(&self) -> MutexGuard<'_, HashMap<PrincipalId, u32>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.calls.all().entry(self.principal.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_call_is_over_and_nothing_is_kept_of_it() {
        let calls = OpenCalls::new(2);
        let (a, b) = (PrincipalId::Service("a".into()), PrincipalId::Service("b".into()));
        let first = calls.open(&a).unwrap();
        let _second = calls.open(&a).unwrap();
        assert!(calls.open(&a).is_none());
        drop(calls.open(&b).unwrap());
        drop(first);
        assert!(calls.open(&a).is_some());
        assert_eq!(calls.all().len(), 1);
    }
}
