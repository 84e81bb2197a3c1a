//! firewalld: the zone of the bridge decides, and policies from that zone to the host before it.
//! <https://firewalld.org/documentation/man-pages/firewall-cmd.html>

use super::ports::has_port;
use super::{Access, Maker, Needs, Run, Verdict, boot_ports};

/// `None` where firewalld does not run.
pub(super) fn judge(needs: &Needs, run: Run) -> Option<Verdict> {
    let ask = |args: &[&str]| run(TOOL, args);
    let zones = ask(&["--list-all-zones"])?;
    match zones.status {
        0 => {}
        NOT_AUTHORIZED => return Some(unknown(needs)),
        _ => return None,
    }
    let zones = parse(&zones.stdout);
    let default = || ask(&["--get-default-zone"]).map(|answer| answer.stdout.trim().to_owned());
    let zone = zone_of(needs, &zones, default)?;
    let policies = ask(&["--list-all-policies"]).map(|answer| parse(&answer.stdout));
    let policies = policies.unwrap_or_default();
    let lets_in = |block: &Block| block.lets_in(needs.boot_port, &|name| service_ports(run, name));

    let to_host = |policy: &&Block| {
        let from = policy.words("ingress-zones").any(|name| name == zone.name || name == "ANY");
        from && policy.words("egress-zones").any(|name| name == "HOST")
    };
    let mut decides = zone;
    let mut answer = lets_in(zone);
    for policy in policies.iter().filter(to_host) {
        let of_policy = lets_in(policy);
        if of_policy == Answer::Yes || policy.refuses() {
            decides = policy;
            answer = of_policy;
            break;
        }
    }
    let kind = if std::ptr::eq(decides, zone) { "zone" } else { "policy" };
    let access = match answer {
        Answer::Yes => Access::Open,
        Answer::No => Access::Closed,
        Answer::Unclear => Access::Unknown,
    };
    Some(verdict(needs, access, kind, &decides.name))
}

/// What can be told by those who may not see the rules: as libvirt's package has them.
fn unknown(needs: &Needs) -> Verdict {
    let zone = match needs.maker {
        Maker::Libvirt => return verdict(needs, Access::Unknown, "zone", LIBVIRT_ZONE),
        Maker::LibvirtRouted => {
            return verdict(needs, Access::Unknown, "policy", ROUTED_POLICY);
        }
        Maker::Host => "zone",
    };
    let bridge = &needs.bridge;
    let name = format!("$(firewall-cmd --get-zone-of-interface={bridge})");
    let command = command(needs, zone, &name);
    Verdict {
        firewall: "firewalld".to_owned(),
        command,
        ..verdict(needs, Access::Unknown, zone, "")
    }
}

fn verdict(needs: &Needs, access: Access, kind: &str, name: &str) -> Verdict {
    Verdict {
        access,
        firewall: format!("firewalld, {kind} `{name}`"),
        ports: format!("{}/tcp", needs.boot_port),
        command: command(needs, kind, name),
    }
}

/// At once and for good. A reload would throw away what others have changed for the moment.
fn command(needs: &Needs, kind: &str, name: &str) -> String {
    let port = format!("{}/tcp", boot_ports(needs.boot_port).display('-'));
    let add = format!("--{kind}={name} --add-port={port}");
    format!("sudo firewall-cmd {add} && sudo firewall-cmd --permanent {add}")
}

/// The zone of the bridge, or the one that it will have: libvirt puts its own bridges into zones
/// of its own where there are such.
fn zone_of<'a>(
    needs: &Needs,
    zones: &'a [Block],
    default: impl Fn() -> Option<String>,
) -> Option<&'a Block> {
    let named = |name: &str| zones.iter().find(|zone| zone.name == name);
    let has_bridge = |zone: &&Block| zone.words("interfaces").any(|name| name == needs.bridge);
    let of_libvirt = || match needs.maker {
        Maker::LibvirtRouted => named("libvirt-routed").or_else(|| named(LIBVIRT_ZONE)),
        Maker::Libvirt => named(LIBVIRT_ZONE),
        Maker::Host => None,
    };
    zones.iter().find(has_bridge).or_else(of_libvirt).or_else(|| named(&default()?))
}

/// A zone or a policy, as `--list-all-…` prints it.
#[derive(Debug, Default)]
struct Block {
    name: String,
    fields: Vec<(String, String)>,
    rich_rules: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Unclear,
}

impl Block {
    fn words(&self, key: &str) -> impl Iterator<Item = &str> {
        let field = self.fields.iter().find(|(name, _)| name == key);
        field.map_or("", |(_, value)| value).split_whitespace()
    }

    fn target(&self) -> &str {
        self.words("target").next().unwrap_or_default()
    }

    /// Whether what no rule names ends here.
    fn refuses(&self) -> bool {
        matches!(self.target(), "REJECT" | "%%REJECT%%" | "DROP")
    }

    fn lets_in(&self, port: u16, ports_of: &impl Fn(&str) -> Vec<String>) -> Answer {
        let service = |name: &str| ports_of(name).iter().any(|it| has_port(it, port, "tcp"));
        if self.words("ports").any(|it| has_port(it, port, "tcp"))
            || self.words("protocols").any(|name| name == "tcp")
            || self.words("services").filter(|name| !KNOWN_SERVICES.contains(name)).any(service)
        {
            return Answer::Yes;
        }
        let ends = |rule: &&String| RULES_FOR_ALL.iter().any(|end| is_for_all(rule, end));
        let names = |rule: &&String| {
            let has = |list: &str| has_port(list, port, "tcp");
            quoted(rule, "port port").is_some_and(has)
                || quoted(rule, "service name").is_some_and(service)
        };
        match self.rich_rules.iter().find(|rule| names(rule) || ends(rule)) {
            // Who is meant by a source or a destination is not looked at.
            Some(rule) if rule.contains(" source ") || rule.contains(" destination ") => {
                Answer::Unclear
            }
            Some(rule) if rule.ends_with("accept") => Answer::Yes,
            None if self.target() == "ACCEPT" => Answer::Yes,
            Some(_) | None => Answer::No,
        }
    }
}

/// `rule priority="32767" reject`: no element, so it means every packet.
fn is_for_all(rule: &str, end: &str) -> bool {
    rule.strip_prefix("rule").and_then(|rest| rest.trim().strip_suffix(end)).is_some_and(|rest| {
        rest.split_whitespace()
            .all(|word| word.starts_with("priority=") || word == "family=\"ipv4\"")
    })
}

/// The value of `key="value"`.
fn quoted<'a>(rule: &'a str, key: &str) -> Option<&'a str> {
    rule.split_once(&format!(" {key}=\""))?.1.split('"').next()
}

fn service_ports(run: Run, name: &str) -> Vec<String> {
    let answer = run(TOOL, &[&format!("--info-service={name}")]);
    let block = answer.map(|answer| parse(&answer.stdout)).unwrap_or_default();
    block.first().map(|it| it.words("ports").map(ToOwned::to_owned).collect()).unwrap_or_default()
}

fn parse(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if !line.starts_with([' ', '\t']) {
            let name = line.split_whitespace().next().unwrap_or_default().to_owned();
            blocks.push(Block { name, ..Block::default() });
            continue;
        }
        let Some(block) = blocks.last_mut() else { continue };
        let line = line.trim();
        if line.starts_with("rule ") {
            block.rich_rules.push(line.to_owned());
        } else if let Some((key, value)) = line.split_once(':') {
            block.fields.push((key.to_owned(), value.trim().to_owned()));
        }
    }
    blocks
}

const TOOL: &str = "firewall-cmd";
/// firewall-cmd(1), EXIT CODES: `NOT_AUTHORIZED`; 252 is `NOT_RUNNING`.
const NOT_AUTHORIZED: i32 = 253;
const LIBVIRT_ZONE: &str = "libvirt";
/// What libvirt's package lets networks in mode `route` reach.
const ROUTED_POLICY: &str = "libvirt-to-host";
/// They have none of our ports, and asking takes a fifth of a second each.
const KNOWN_SERVICES: [&str; 9] =
    ["dhcp", "dhcpv6", "dhcpv6-client", "dns", "ssh", "tftp", "mdns", "cockpit", "samba-client"];
const RULES_FOR_ALL: [&str; 3] = ["reject", "drop", "accept"];
