//! The registry's migrations, compiled in.

use portico_db::{Migration, Schema, TABLES_POSTGRES, TABLES_SQLITE};

static SCHEMA: Schema = Schema {
    name: "registry",
    postgres: &[
        Migration { version: 1, name: "revision, outbox, idempotency", sql: TABLES_POSTGRES, breaking: true },
        Migration {
            version: 2,
            name: "registry",
            sql: include_str!("../../../../../migrations/registry/postgres/0002_registry.sql"),
            breaking: true,
        },
        Migration {
            version: 3,
            name: "audit retention",
            sql: include_str!("../../../../../migrations/registry/postgres/0003_audit_retention.sql"),
            breaking: false,
        },
        Migration {
            version: 4,
            name: "audit clocks",
            sql: include_str!("../../../../../migrations/registry/postgres/0004_audit_clocks.sql"),
            breaking: false,
        },
        Migration {
            version: 5,
            name: "sealing keys",
            sql: include_str!("../../../../../migrations/registry/postgres/0005_sealing_keys.sql"),
            breaking: false,
        },
    ],
    sqlite: &[
        Migration { version: 1, name: "revision, outbox, idempotency", sql: TABLES_SQLITE, breaking: true },
        Migration {
            version: 2,
            name: "registry",
            sql: include_str!("../../../../../migrations/registry/sqlite/0002_registry.sql"),
            breaking: true,
        },
        Migration {
            version: 3,
            name: "audit retention",
            sql: include_str!("../../../../../migrations/registry/sqlite/0003_audit_retention.sql"),
            breaking: false,
        },
        Migration {
            version: 4,
            name: "audit clocks",
            sql: include_str!("../../../../../migrations/registry/sqlite/0004_audit_clocks.sql"),
            breaking: false,
        },
        Migration {
            version: 5,
            name: "sealing keys",
            sql: include_str!("../../../../../migrations/registry/sqlite/0005_sealing_keys.sql"),
            breaking: false,
        },
    ],
};

/// The schema that this version of the registry works on.
#[must_use]
pub fn schema() -> &'static Schema {
    &SCHEMA
}
