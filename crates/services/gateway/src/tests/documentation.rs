use crate::refusal::Reason;
use crate::settings::GatewaySettings;

const PAGE: &str = include_str!("../../../../../docs/gateway.md");

/// The rows of the table under this heading, cell by cell, without the code marks.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let (_, section) = PAGE.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let table = section.lines().filter(|line| line.starts_with("| `"));
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    table.map(cells).collect()
}

#[test]
fn the_page_of_the_gateway_tells_every_reason() {
    let told: Vec<Vec<String>> = rows("Reasons").into_iter().map(|row| row[..4].to_vec()).collect();
    let reasons: Vec<Vec<String>> = Reason::ALL
        .iter()
        .map(|reason| {
            let (status, code) = (reason.status().as_u16().to_string(), reason.code().to_string());
            vec![reason.as_str().to_owned(), status, code, reason.outcome().as_str().to_owned()]
        })
        .collect();
    assert_eq!(told, reasons);
}

#[test]
fn the_page_of_the_gateway_tells_the_limits_as_they_are() {
    let settings = serde_json::to_value(GatewaySettings::default()).unwrap();
    let rows = rows("Limits");
    for row in &rows {
        let value = settings.pointer(&format!("/{}", row[0].replace('.', "/")));
        assert_eq!(value.map(ToString::to_string).as_deref(), Some(row[1].as_str()), "{}", row[0]);
    }
    for section in ["requests", "limits", "sessions", "upstream"] {
        for key in settings[section].as_object().unwrap().keys() {
            assert!(
                rows.iter().any(|row| row[0] == format!("{section}.{key}")),
                "{section}.{key} is missing"
            );
        }
    }
}
