//! What a token can be for (AS-13): one endpoint, everything behind `/mcp`, or the management plane.

use portico_ids::EndpointName;
use portico_oauth_types::ResourceUri;

/// What a resource URI names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// `{public_origin}/mcp`: every endpoint that the caller may use.
    Root,
    /// `{public_origin}/{name}/mcp`.
    Endpoint(EndpointName),
    /// `{public_origin}/api`: REST, gRPC and the console's API.
    Api,
}

/// The deployment's own resource URIs.
#[derive(Debug, Clone)]
pub(crate) struct Resources {
    origin: String,
}

impl Resources {
    pub(crate) fn new(public_origin: &str) -> Self {
        Self { origin: public_origin.to_owned() }
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns the audience of tokens for a target, byte for byte.
    pub(crate) fn uri(&self, target: &Target) -> String {
        match target {
            Target::Root => format!("{}/mcp", self.origin),
            Target::Endpoint(name) => format!("{}/{name}/mcp", self.origin),
            Target::Api => format!("{}/api", self.origin),
        }
    }

    /// Reads a `resource` parameter (RFC 8707 §2); `None` if it names nothing of this deployment.
    /// Tolerant on input (case of scheme and host, one trailing slash), exact on output (AS-13).
    pub(crate) fn target(&self, resource: &str) -> Option<Target> {
        let canonical = ResourceUri::parse(resource).ok()?;
        let path = canonical.as_str().strip_prefix(&self.origin)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        match path {
            "/mcp" => Some(Target::Root),
            "/api" => Some(Target::Api),
            _ => {
                let name = path.strip_prefix('/')?;
                let name = name.strip_suffix("/mcp").or_else(|| name.strip_suffix("/sse"))?;
                EndpointName::parse(name).ok().map(Target::Endpoint)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources() -> Resources {
        Resources::new("https://portico.example")
    }

    #[test]
    fn as_13_input_is_canonicalised_and_output_is_exact() {
        let time = Target::Endpoint(EndpointName::parse("time").unwrap());
        for (text, target) in [
            ("https://portico.example/mcp", Target::Root),
            ("HTTPS://Portico.Example/mcp", Target::Root),
            ("https://portico.example/mcp/", Target::Root),
            ("https://portico.example:443/time/mcp", time.clone()),
            ("https://portico.example/time/mcp/", time.clone()),
            ("https://portico.example/time/sse", time.clone()),
            ("https://portico.example/api", Target::Api),
        ] {
            assert_eq!(resources().target(text), Some(target), "{text}");
        }
        assert_eq!(resources().uri(&time), "https://portico.example/time/mcp");
    }

    #[test]
    fn as_13_what_is_not_ours_is_no_target() {
        for text in [
            "",
            "mcp",
            "https://portico.example",
            "https://portico.example/",
            "https://portico.example.evil/mcp",
            "https://evil.example/mcp",
            "http://portico.example/mcp",
            "https://portico.example/time",
            "https://portico.example/time/mcp/x",
            "https://portico.example/api/mcp",
            "https://portico.example/a/b/mcp",
            "https://portico.example/mcp?x=1",
            "https://portico.example/mcp#x",
            "https://portico.example/TIME/mcp",
            "https://portico.example/time/mcp//",
        ] {
            assert_eq!(resources().target(text), None, "{text}");
        }
    }
}
