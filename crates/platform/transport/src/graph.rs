//! Who connects to whom, as the chart says it: what services may call is tested against it.

/// Returns the services that call `called`, from the text of `helm/portico/graph.yaml`.
#[must_use]
pub fn callers<'a>(graph: &'a str, called: &str) -> Vec<&'a str> {
    let mut service = "";
    let mut callers = Vec::new();
    for line in graph.lines() {
        if let Some(name) = line.strip_prefix("  ").and_then(|name| name.strip_suffix(':')) {
            service = name;
        }
        let peers = line.strip_prefix("    peers: [").and_then(|peers| peers.strip_suffix(']'));
        if peers.is_some_and(|peers| peers.split(", ").any(|peer| peer == called)) {
            callers.push(service);
        }
    }
    callers
}

#[test]
fn callers_are_the_services_whose_peers_name_it() {
    let graph =
        "services:\n  a:\n    peers: [b, c]\n  b:\n    # Calls.\n    peers: [c]\n  c:\n    public: true\n";
    assert_eq!(callers(graph, "c"), ["a", "b"]);
    assert_eq!(callers(graph, "b"), ["a"]);
    assert!(callers(graph, "a").is_empty());
}
