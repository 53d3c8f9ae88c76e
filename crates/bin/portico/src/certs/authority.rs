//! The CA of a deployment and what it issues.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use portico_ids::Rng;
use portico_transport::PeerIdentity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::SecretString;
use x509_parser::prelude::{GeneralName, X509Certificate};

use super::files::CertificateFiles;

/// A certificate begins earlier than it is made, for machines whose clock is late.
const BACKDATED: TimeDelta = TimeDelta::minutes(5);
/// Bytes of a serial number: unique without a register of them (RFC 5280 §4.1.2.2 allows 20).
const SERIAL_LEN: usize = 16;

/// What making a certificate takes.
pub(super) struct Tools<'a> {
    pub(super) now: DateTime<Utc>,
    pub(super) rng: &'a dyn Rng,
}

/// A CA, ready to sign.
pub(super) struct Authority {
    name: String,
    cert: String,
    key: KeyPair,
    not_after: DateTime<Utc>,
}

/// What a service asks for.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) service: String,
    pub(super) dns: Vec<String>,
    pub(super) ip: Vec<IpAddr>,
    pub(super) life: TimeDelta,
}

/// What it gets.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) cert: String,
    pub(super) key: SecretString,
    pub(super) not_after: DateTime<Utc>,
    /// Whether the CA ends before the life that was asked for.
    pub(super) cut_short: bool,
}

impl Authority {
    /// Makes a CA with a key and a name of its own.
    pub(super) fn generate(life: TimeDelta, tools: &Tools<'_>) -> Result<Self> {
        let mut suffix = [0; 4];
        tools.rng.fill(&mut suffix);
        let name = format!("Portico CA {:08x}", u32::from_be_bytes(suffix));
        Self::make(name, KeyPair::generate()?, life, tools)
    }

    fn make(name: String, key: KeyPair, life: TimeDelta, tools: &Tools<'_>) -> Result<Self> {
        let not_after = tools.now + life;
        let mut params = authority_params(&name);
        set_life(&mut params, tools.now, not_after)?;
        params.serial_number = Some(serial(tools.rng));
        let cert = params.self_signed(&key)?.pem();
        Ok(Self { name, cert, key, not_after })
    }

    /// Makes a certificate of the same name and key that ends later: what the CA has issued stays good.
    pub(super) fn renew(self, life: TimeDelta, tools: &Tools<'_>) -> Result<Self> {
        Self::make(self.name, self.key, life, tools)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn not_after(&self) -> DateTime<Utc> {
        self.not_after
    }

    pub(super) fn create(&self, files: &CertificateFiles) -> Result<()> {
        files.create(&self.cert, &self.key.serialize_pem().into())
    }

    /// Writes the certificate, over an old one too; the key stays where it is.
    pub(super) fn replace(&self, files: &CertificateFiles) -> Result<()> {
        files.replace(&self.cert, None)
    }

    /// Reads a CA that [`Authority::create`] wrote.
    pub(super) fn read(files: &CertificateFiles) -> Result<Self> {
        let cert = read(&files.cert)?;
        let key = KeyPair::from_pem(&read(&files.key)?)
            .map_err(|_| anyhow!("{} holds no private key in PEM form", files.key.display()))?;
        let der = CertificateDer::from_pem_slice(cert.as_bytes())
            .map_err(|_| anyhow!("{} holds no certificate in PEM form", files.cert.display()))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der)
            .map_err(|_| anyhow!("{} holds no X.509 certificate", files.cert.display()))?;
        ensure!(
            parsed.public_key().subject_public_key.data == key.public_key_raw(),
            "{} is not the key of {}",
            files.key.display(),
            files.cert.display()
        );
        let name = name_of(&parsed).filter(|_| parsed.is_ca()).with_context(|| {
            format!(
                "{} is not a CA that `portico certs init` made: issue with the tool that made it, \
                 and give the certificate the URI name spiffe://portico/SERVICE",
                files.cert.display()
            )
        })?;
        let not_after = DateTime::from_timestamp(parsed.validity().not_after.timestamp(), 0)
            .with_context(|| format!("{} has an end that is no time", files.cert.display()))?;
        Ok(Self { name, cert, key, not_after })
    }

    /// Issues a certificate with a new key.
    pub(super) fn issue(&self, leaf: &Leaf, tools: &Tools<'_>) -> Result<Issued> {
        if self.not_after <= tools.now {
            bail!("the CA `{}` has ended: `portico certs init --renew` gives it a new end", self.name);
        }
        let asked = tools.now + leaf.life;
        let not_after = asked.min(self.not_after);
        let key = KeyPair::generate()?;
        let mut params = leaf_params(leaf)?;
        set_life(&mut params, tools.now, not_after)?;
        params.serial_number = Some(serial(tools.rng));
        let authority = authority_params(&self.name);
        let cert = params.signed_by(&key, &Issuer::from_params(&authority, &self.key))?.pem();
        Ok(Issued { cert, key: key.serialize_pem().into(), not_after, cut_short: not_after < asked })
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read: `portico certs init --dir` makes a CA", path.display()))
}

/// Reads the name if it is one common name of ours and nothing else.
fn name_of(certificate: &X509Certificate<'_>) -> Option<String> {
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    let ours = authority_params(name).distinguished_name;
    let same = certificate.subject().iter_attributes().count() == ours.iter().count();
    (same && name.starts_with("Portico CA ")).then(|| name.to_owned())
}

/// Reads the DNS names and addresses of a certificate that is about to be renewed.
pub(super) fn names_of(path: &Path) -> Result<(Vec<String>, Vec<IpAddr>)> {
    let damaged = || format!("{} is no certificate: remove it, or give its names again", path.display());
    let der = CertificateDer::from_pem_file(path).with_context(damaged)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok().with_context(damaged)?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let (mut dns, mut ip) = (Vec::new(), Vec::new());
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(name) => dns.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                ip.extend(four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)));
            }
            _ => {}
        }
    }
    Ok((dns, ip))
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    // It signs services and no other CA.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf_params(leaf: &Leaf) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&leaf.service);
    let uri = PeerIdentity::new(&leaf.service).spiffe_id();
    params.subject_alt_names.push(SanType::URI(uri.try_into()?));
    for name in &leaf.dns {
        let refused = || format!("`{}` is not a DNS name", name.escape_default());
        ensure!(is_dns_name(name), refused());
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().with_context(refused)?));
    }
    params.subject_alt_names.extend(leaf.ip.iter().copied().map(SanType::IpAddress));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Every service serves and calls with the same certificate.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        plain && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.strip_prefix("*.").unwrap_or(name).split('.').all(label)
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// A random positive number.
fn serial(rng: &dyn Rng) -> SerialNumber {
    let mut bytes = [0; SERIAL_LEN];
    rng.fill(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn set_life(params: &mut CertificateParams, now: DateTime<Utc>, not_after: DateTime<Utc>) -> Result<()> {
    let since_1970 = |time: DateTime<Utc>| {
        let seconds =
            u64::try_from(time.timestamp()).context("the machine's clock says a time before 1970")?;
        anyhow::Ok(date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds))
    };
    params.not_before = since_1970(now - BACKDATED)?;
    params.not_after = since_1970(not_after)?;
    Ok(())
}
