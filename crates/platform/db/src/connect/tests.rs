use rcgen::{CertificateParams, KeyPair};

use crate::{
    Db, OpenError, Schema, StoreError, on_db, scalar,
    testing::{OwnPostgres, ServerTls, connect},
};

const SCHEMA: Schema = Schema { name: "suite", postgres: &[], sqlite: &[] };

fn certificate() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

async fn protocol(db: &Db) -> String {
    const SQL: &str = "SELECT COALESCE(version, 'none') FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    on_db!(db, pool => sqlx::query(SQL).try_map(scalar).fetch_one(pool).await.unwrap())
}

#[tokio::test]
async fn s3_26_s3_61_postgres_is_reached_by_tls_and_its_certificate_is_verified() {
    let (own, key) = certificate();
    let (foreign, _) = certificate();
    let Some(server) = OwnPostgres::start(Some(ServerTls { certificate: &own, key: &key })) else { return };
    let dir = tempfile::tempdir().unwrap();
    let root = |name: &str, pem: &str| {
        std::fs::write(dir.path().join(name), pem).unwrap();
        dir.path().join(name).display().to_string()
    };
    let (trusted, other) = (root("own.pem", &own), root("other.pem", &foreign));
    for parameters in ["sslmode=require".to_owned(), format!("sslmode=verify-full&sslrootcert={trusted}")] {
        let db = connect(&server, &parameters, &SCHEMA).await.unwrap();
        assert_eq!(protocol(&db).await, "TLSv1.3", "{parameters}");
    }
    let refused =
        connect(&server, &format!("sslmode=verify-full&sslrootcert={other}"), &SCHEMA).await.unwrap_err();
    assert!(matches!(refused, OpenError::Tls(_)), "{refused:?}");
    assert!(!refused.is_transient() && refused.to_string().contains("sslrootcert"), "{refused}");
    let plain = connect(&server, "sslmode=disable", &SCHEMA).await.unwrap_err();
    assert!(matches!(plain, OpenError::Refused(_)), "{plain:?}");
}

#[tokio::test]
async fn a_pool_survives_a_crash_of_postgres_and_refuses_tls_that_is_not_there() {
    let Some(server) = OwnPostgres::start(None) else { return };
    let refused = connect(&server, "sslmode=require", &SCHEMA).await.unwrap_err();
    assert!(matches!(refused, OpenError::Tls(_)), "{refused:?}");
    let db = connect(&server, "sslmode=prefer", &SCHEMA).await.unwrap();
    db.ping().await.unwrap();
    assert_eq!(protocol(&db).await, "none");
    server.down();
    for _ in 0..2 {
        let away = db.ping().await.unwrap_err();
        assert!(matches!(away, StoreError::Unavailable(_)), "{away:?}");
    }
    server.up();
    db.ping().await.unwrap();
}
