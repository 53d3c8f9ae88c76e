/// Whether a URI is an expansion of a URI template, and stays within it (RFC 6570 §3).
///
/// Where an owner chose a template, it bounds what may be read: `/docs/../secrets` is no part of `/docs/{path}`,
/// however a server would resolve it.
pub(super) fn expands_to(template: &str, uri: &str) -> bool {
    if has_dot_segment(uri) {
        return false;
    }
    // The positions in the URI up to which the template has been matched.
    let mut reached = vec![false; uri.len() + 1];
    reached[0] = true;
    let mut rest = template;
    while !rest.is_empty() {
        let (literal, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
        reached = after_literal(&reached, uri, literal);
        let Some(expression) = after.strip_prefix('{') else { break };
        let Some((expression, after)) = expression.split_once('}') else { return false };
        reached = after_expression(&reached, uri, expression);
        rest = after;
    }
    reached[uri.len()]
}

fn after_literal(reached: &[bool], uri: &str, literal: &str) -> Vec<bool> {
    let mut next = vec![false; reached.len()];
    for at in (0..reached.len()).filter(|at| reached[*at]) {
        if uri.as_bytes()[at..].starts_with(literal.as_bytes()) {
            next[at + literal.len()] = true;
        }
    }
    next
}

/// A simple expression yields one segment; operators yield reserved characters too (RFC 6570 §3.2.3 and on).
fn after_expression(reached: &[bool], uri: &str, expression: &str) -> Vec<bool> {
    let simple = !expression.starts_with(['+', '#', '.', '/', ';', '?', '&']);
    let mut next = reached.to_vec();
    for (at, byte) in uri.bytes().enumerate() {
        let within = !(simple && matches!(byte, b'/' | b'?' | b'#' | b'\\'));
        next[at + 1] |= next[at] && within;
    }
    next
}

/// Whether some segment is `.` or `..`, also when dots or slashes are percent-encoded (RFC 3986 §3.3).
fn has_dot_segment(uri: &str) -> bool {
    let plain = uri.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    plain.split(['/', '\\', '?', '#']).any(|segment| matches!(segment, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expansion_fills_each_expression_and_keeps_each_literal() {
        for (template, uri) in [
            ("file:///docs/{path}", "file:///docs/a.md"),
            ("file:///docs/{+path}", "file:///docs/a/b.md"),
            ("test://{id}/data", "test://42/data"),
            ("x:{a}-{b}.md", "x:1-2-3.md"),
            ("x:fixed", "x:fixed"),
            ("x:/s{?q,page}", "x:/s?q=é&page=2"),
        ] {
            assert!(expands_to(template, uri), "{template} {uri}");
        }
        for (template, uri) in [
            ("file:///docs/{path}", "file:///docs/a/b"),
            ("file:///docs/{path}", "file:///other/a"),
            ("test://{id}/data", "test://42/secret"),
            ("test://{id}/data", "test://42/data/more"),
            ("x:fixed", "x:fixed2"),
            ("x:{broken", "x:{broken"),
        ] {
            assert!(!expands_to(template, uri), "{template} {uri}");
        }
    }

    #[test]
    fn rs_35_no_expansion_leaves_what_was_chosen() {
        for uri in [
            "d:/docs/../x",
            "d:/docs/%2e%2E/x",
            "d:/docs/..%2fx",
            "d:/docs/a\\..\\x",
            "d:/docs/.",
            "d:/docs/..?a",
        ] {
            assert!(!expands_to("d:/docs/{+path}", uri), "{uri}");
        }
        assert!(expands_to("d:/docs/{+path}", "d:/docs/a..b/...c"));
    }

    #[test]
    fn many_expressions_take_no_more_than_linear_time_each() {
        let template = "{+a}".repeat(200) + "!";
        assert!(!expands_to(&template, &"a".repeat(8_000)));
    }
}
