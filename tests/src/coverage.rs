//! Which promises have no test: every id that a release names must stand in the name of at least one test.

use std::collections::BTreeSet;
use std::path::Path;

/// What the product promises, by source: requirements (S0 to S4), resource server (RS), authorization server (AS).
/// An entry is an id or a range. RS-15 (stronger authentication for risky tools, optional) is not offered.
const PROMISED: [(&str, &[(u32, u32)]); 7] = [
    ("s0", &[(1, 2), (10, 10), (12, 14), (16, 18), (20, 26), (28, 28), (30, 31)]),
    ("s1", &[(1, 5), (7, 11), (17, 17), (22, 25)]),
    ("s2", &[(4, 9), (11, 12), (14, 15), (24, 26), (29, 31), (34, 34), (38, 38), (40, 40)]),
    (
        "s3",
        &[
            (1, 3),
            (7, 7),
            (9, 9),
            (14, 14),
            (17, 17),
            (26, 27),
            (29, 32),
            (34, 34),
            (42, 43),
            (45, 47),
            (49, 49),
            (51, 51),
            (53, 53),
            (60, 60),
            (67, 69),
            (73, 73),
        ],
    ),
    ("s4", &[(1, 1), (5, 5), (14, 14), (16, 21), (23, 24), (27, 27), (30, 31), (41, 42), (44, 44), (51, 51)]),
    ("rs", &[(1, 6), (10, 14), (20, 28), (30, 36)]),
    ("as", &[(1, 6), (10, 18), (20, 23), (29, 31)]),
];

/// The ids that a name carries: `rs_20_to_23_a16_…` has four of them, `s1_05_s1_07_…` two.
fn ids(name: &str) -> BTreeSet<(String, u32)> {
    let words: Vec<&str> = name.split('_').collect();
    let number = |word: &&str| word.parse().ok().filter(|_| word.len() == 2);
    let mut found = BTreeSet::new();
    for (at, word) in words.iter().enumerate() {
        if !PROMISED.iter().any(|(source, _)| source == word) {
            continue;
        }
        let mut rest = words[at + 1..].iter();
        let mut last: Option<u32> = None;
        while let Some(word) = rest.next() {
            let end = match (*word, last) {
                ("to", Some(_)) => rest.next().and_then(number),
                _ => number(word),
            };
            let Some(end) = end else { break };
            let begin = if *word == "to" { last.unwrap_or(end) } else { end };
            found.extend((begin..=end).map(|id| ((*words[at]).to_owned(), id)));
            last = Some(end);
        }
    }
    found
}

/// The names of test functions below a folder, in Rust and Python, and those of the jobs that scripts run.
fn test_names(folder: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            test_names(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "sh") {
            let text = std::fs::read_to_string(&path).unwrap();
            let jobs =
                text.lines().filter_map(|line| line.trim().strip_prefix("run_job ")?.split(' ').next());
            names.extend(jobs.map(str::to_owned));
        } else if path.extension().is_some_and(|extension| extension == "py") {
            let text = std::fs::read_to_string(&path).unwrap();
            let tests = text.lines().filter_map(|line| line.strip_prefix("def test_")?.split('(').next());
            names.extend(tests.map(str::to_owned));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                if line.starts_with("#[") {
                    is_test |= line.contains("test") && !line.contains("cfg(test)");
                } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
                    names.push(rest.split(['(', '<']).next().unwrap().to_owned());
                    is_test = false;
                }
            }
        }
    }
}

#[test]
fn every_promise_has_a_test_that_names_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut names = Vec::new();
    for folder in ["crates", "tests/src", "tests/tests", "tests/clients", "tests/deploy"] {
        test_names(&root.join(folder), &mut names);
    }
    let found: BTreeSet<_> = names.iter().flat_map(|name| ids(name)).collect();
    let missing: Vec<String> = PROMISED
        .iter()
        .flat_map(|(source, ranges)| {
            ranges.iter().flat_map(move |(begin, end)| (*begin..=*end).map(move |id| (source, id)))
        })
        .filter(|(source, id)| !found.contains(&((**source).to_owned(), *id)))
        .map(|(source, id)| format!("{}-{id:02}", source.to_uppercase()))
        .collect();
    assert!(missing.is_empty(), "no test names {}", missing.join(", "));
}

#[test]
fn ids_are_read_from_names() {
    let of = |name: &str| {
        ids(name).iter().map(|(source, id)| format!("{source}-{id}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of("rs_20_to_23_a16_tokens"), "rs-20 rs-21 rs-22 rs-23");
    assert_eq!(of("s1_05_s1_07_s4_30_the_worker"), "s1-5 s1-7 s4-30");
    assert_eq!(of("as_15_16_pages"), "as-15 as-16");
    assert_eq!(of("as_if_2_bytes"), "");
}
