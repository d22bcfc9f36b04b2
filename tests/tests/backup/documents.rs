//! Objects as Kubernetes stores them, made from a seed.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::{Value, json};

/// Makes documents of 1 to 4 KiB.
pub struct Documents {
    random: StdRng,
}

impl Documents {
    pub fn new(seed: u64) -> Documents {
        Documents { random: StdRng::seed_from_u64(seed) }
    }

    /// The next document, and the key it stands under.
    pub fn next(&mut self) -> (String, Vec<u8>) {
        let (namespace, name) = (self.word(8), self.word(12));
        let bytes_min = self.random.random_range(1024..3072);
        let mut pod = self.pod(&namespace, &name);
        let mut number = 0;
        while pod.to_string().len() < bytes_min {
            number += 1;
            let entry = json!({ "name": format!("VARIABLE_{number}"), "value": self.word(24) });
            if let Some(Value::Array(env)) = pod.pointer_mut("/spec/containers/0/env") {
                env.push(entry);
            }
        }
        (format!("/registry/pods/{namespace}/{name}"), pod.to_string().into_bytes())
    }

    fn pod(&mut self, namespace: &str, name: &str) -> Value {
        let (uid, owner, image) = (self.uid(), self.uid(), self.word(40));
        let (created, ip) = (self.time(), self.ip());
        json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {
                "name": name, "generateName": format!("{name}-"), "namespace": namespace, "uid": uid,
                "creationTimestamp": created,
                "labels": { "app": name, "pod-template-hash": self.word(10) },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": owner,
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "containers": [{
                    "name": name, "image": format!("registry.example/{namespace}/{name}@sha256:{image}"),
                    "env": [], "imagePullPolicy": "IfNotPresent",
                    "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } },
                    "terminationMessagePath": "/dev/termination-log",
                }],
                "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
                "serviceAccountName": "default", "nodeName": self.word(16),
            },
            "status": {
                "phase": "Running", "podIP": ip, "startTime": created, "qosClass": "Burstable",
                "conditions": [
                    { "type": "Initialized", "status": "True", "lastTransitionTime": created },
                    { "type": "Ready", "status": "True", "lastTransitionTime": created },
                    { "type": "PodScheduled", "status": "True", "lastTransitionTime": created },
                ],
            },
        })
    }

    fn word(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let letter = |_| char::from(LETTERS[self.random.random_range(0..LETTERS.len())]);
        (0..length).map(letter).collect()
    }

    fn uid(&mut self) -> String {
        let [a, b] = [self.random.next_u64(), self.random.next_u64()];
        format!("{:08x}-{:04x}-{:04x}-{:016x}", a >> 32, a >> 16 & 0xffff, a & 0xffff, b)
    }

    fn time(&mut self) -> String {
        let mut up_to = |most| self.random.random_range(0..most);
        format!("2026-03-{:02}T{:02}:{:02}:{:02}Z", up_to(28) + 1, up_to(24), up_to(60), up_to(60))
    }

    fn ip(&mut self) -> String {
        let mut byte = || self.random.random_range(1..255);
        format!("10.{}.{}.{}", byte(), byte(), byte())
    }
}

#[test]
fn documents_have_the_size_they_should_and_follow_from_their_seed() {
    let (mut first, mut second) = (Documents::new(1), Documents::new(1));
    for _ in 0..200 {
        let (key, value) = first.next();
        assert_eq!((key, value.clone()), second.next());
        assert!((1024..=4096).contains(&value.len()), "{} bytes", value.len());
    }
}
