//! Names of backends, followed as they change: every address that a name stands for is an endpoint.
//!
//! A name is asked for again when its answer is no longer good, within bounds: a TTL of 0 must not make a storm, one of a day must
//! not outlive a rollout. An answer that does not come, or is empty, changes nothing: a name server's bad minute is
//! not the backend's. Each worker asks for itself, as nothing else of it is shared either.

use std::net::SocketAddr;
use std::rc::Weak;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use super::upstream::Pool;
use crate::policy::Dns;

/// How long one try may take: a call may be waiting for it.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The first pause after a name that could not be resolved; it doubles up to the bound of good answers.
const RETRY_FIRST: Duration = Duration::from_millis(500);

/// A name to follow.
pub struct Name {
    /// Its position among the backend's.
    pub number: usize,
    /// What is asked for.
    pub host: Box<str>,
    /// Where its addresses listen.
    pub port: u16,
}

/// By the servers of the settings, or by what the system says.
///
/// # Errors
/// Words on why there is none.
pub fn resolver(dns: &Dns) -> Result<TokioResolver, String> {
    let mut builder = if dns.servers.is_empty() {
        TokioResolver::builder_tokio().map_err(|error| format!("/etc/resolv.conf cannot be used: {error}"))?
    } else {
        let servers = dns.servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = TIMEOUT;
    // How long an answer is good is decided here.
    options.cache_size = 0;
    builder.build().map_err(|error| error.to_string())
}

/// How long to wait until a name is asked for again, after an answer that is good until then.
#[must_use]
pub fn good_for(dns: &Dns, valid_until: Instant, now: Instant) -> Duration {
    valid_until.saturating_duration_since(now).clamp(dns.min_ttl, dns.max_ttl)
}

/// The same after `failures` in a row.
#[must_use]
pub fn again_after(dns: &Dns, failures: u32) -> Duration {
    RETRY_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(dns.max_ttl)
}

/// Follows a name for as long as somebody has the pool.
pub async fn follow(pool: Weak<Pool>, resolver: Result<TokioResolver, String>, name: Name, dns: Dns) {
    let (mut failures, mut tried) = (0_u32, false);
    loop {
        let found = match &resolver {
            Ok(resolver) => lookup(resolver, &name).await,
            Err(fault) => Err(fault.clone()),
        };
        let Some(pool) = pool.upgrade() else { return };
        let now = Instant::now();
        if !std::mem::replace(&mut tried, true) {
            pool.tried();
        }
        let pause = match found {
            Ok((addresses, valid_until)) => {
                failures = 0;
                pool.resolved(name.number, &name.host, &addresses);
                good_for(&dns, valid_until, now)
            }
            Err(fault) => {
                failures = failures.saturating_add(1);
                let pause = again_after(&dns, failures);
                pool.unresolved(format!("{} cannot be resolved: {fault}", name.host), now + pause + TIMEOUT * 2);
                pause
            }
        };
        drop(pool);
        // A tenth of jitter keeps workers and sidecars out of step.
        tokio::time::sleep(pause.mul_f64(0.95 + 0.1 * fastrand::f64())).await;
    }
}

async fn lookup(resolver: &TokioResolver, name: &Name) -> Result<(Vec<SocketAddr>, Instant), String> {
    let found = resolver.lookup_ip(&*name.host).await.map_err(|error| error.to_string())?;
    let mut addresses: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(ip, name.port)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err("it has no addresses".into());
    }
    Ok((addresses, found.valid_until()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_within_bounds() {
        let dns = Dns { min_ttl: Duration::from_secs(5), max_ttl: Duration::from_secs(60), ..Dns::default() };
        let now = Instant::now();
        for (ttl, wanted) in [(0, 5), (30, 30), (86_400, 60)] {
            assert_eq!(good_for(&dns, now + Duration::from_secs(ttl), now).as_secs(), wanted);
        }
    }

    #[test]
    fn a_name_that_fails_is_asked_for_less_and_less() {
        let dns = Dns::default();
        let pauses: Vec<u128> = (1..=9).map(|failures| again_after(&dns, failures).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    }
}
