//! ufw: rules in their order, and what comes in is refused by default. Only root may read them.
//! <https://manpages.debian.org/ufw>

use std::path::Path;

use fs_err as fs;
use ipnet::Ipv4Net;

use super::ports::has_port;
use super::{Access, Maker, Needs, Run, Verdict, boot_ports};

/// `None` where ufw is not switched on.
pub(super) fn judge(needs: &Needs, run: Run) -> Option<Verdict> {
    let access = match run(TOOL, &["status", "verbose"]) {
        Some(answer) if answer.status == 0 => judge_status(needs, &answer.stdout, run)?,
        _ => judge_settings(Path::new("/"))?,
    };
    let ports = wanted(needs).map(|(port, protocol)| format!("{port}/{protocol}"));
    Some(Verdict {
        access,
        firewall: "ufw".to_owned(),
        ports: ports.collect::<Vec<_>>().join(", "),
        command: command(needs),
    })
}

/// What has to be open.
fn wanted(needs: &Needs) -> impl Iterator<Item = (u16, &'static str)> {
    let of_dnsmasq = needs.dnsmasq.then_some(DNSMASQ).into_iter().flatten();
    [(needs.boot_port, "tcp")].into_iter().chain(of_dnsmasq)
}

fn command(needs: &Needs) -> String {
    let bridge = match needs.maker {
        // The bridges of all labs.
        Maker::Libvirt | Maker::LibvirtRouted if needs.bridge.starts_with(LABS_BRIDGES) => {
            format!("{LABS_BRIDGES}+")
        }
        _ => needs.bridge.clone(),
    };
    let allow = |protocol: &str, ports: &str| {
        format!("sudo ufw allow in on {bridge} proto {protocol} to any port {ports}")
    };
    let boot = boot_ports(needs.boot_port).display(':');
    if needs.dnsmasq {
        format!("{} && {}", allow("udp", "53,67,69"), allow("tcp", &format!("53,{boot}")))
    } else {
        allow("tcp", &boot)
    }
}

/// What everybody may read.
fn judge_settings(root: &Path) -> Option<Access> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let setting = |text: &str, key: &str| {
        let value = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        value.map(|value| value.trim().trim_matches('"').to_ascii_lowercase())
    };
    if setting(&read("etc/ufw/ufw.conf"), "ENABLED")? != "yes" {
        return None;
    }
    let policy = setting(&read("etc/default/ufw"), "DEFAULT_INPUT_POLICY");
    Some(if policy.as_deref() == Some("accept") { Access::Open } else { Access::Unknown })
}

fn judge_status(needs: &Needs, status: &str, run: Run) -> Option<Access> {
    if !status.lines().any(|line| line.trim() == "Status: active") {
        return None;
    }
    let default_allows = status.lines().any(|line| line.starts_with("Default: allow (incoming)"));
    let rules: Vec<Rule> = status.lines().filter_map(Rule::parse).collect();
    let allows = |(port, protocol): (u16, &str)| {
        let first = rules.iter().find(|rule| rule.means(needs, port, protocol, run));
        first.map_or(default_allows, |rule| rule.allows)
    };
    Some(if wanted(needs).all(allows) { Access::Open } else { Access::Closed })
}

/// `8470:8869/tcp on virbr-+   ALLOW IN    Anywhere`
#[derive(Debug)]
struct Rule<'a> {
    to: &'a str,
    interface: Option<&'a str>,
    allows: bool,
    from: &'a str,
}

impl<'a> Rule<'a> {
    /// `None` for what is no rule, or one for IPv6 or for another direction.
    fn parse(line: &'a str) -> Option<Self> {
        let (action, allows) = ACTIONS.iter().find(|(action, _)| line.contains(action))?;
        let (to, from) = line.split_once(action)?;
        if to.contains("(v6)") || from.contains("(v6)") {
            return None;
        }
        let (to, interface) = match to.trim().split_once(" on ") {
            Some((to, interface)) => (to.trim(), Some(interface.trim())),
            None => (to.trim(), None),
        };
        // A comment may follow.
        let from = from.split(" #").next().unwrap_or_default().trim();
        Some(Self { to, interface, allows: *allows, from })
    }

    fn means(&self, needs: &Needs, port: u16, protocol: &str, run: Run) -> bool {
        let interface = self.interface.is_none_or(|name| match name.strip_suffix('+') {
            Some(beginning) => needs.bridge.starts_with(beginning),
            None => name == needs.bridge,
        });
        interface && self.comes_from(needs.subnet) && self.goes_to(port, protocol, run)
    }

    fn comes_from(&self, subnet: Option<Ipv4Net>) -> bool {
        if self.from == ANYWHERE {
            return true;
        }
        let source = self.from.split_whitespace().next().and_then(|from| from.parse().ok());
        source.zip(subnet).is_some_and(|(source, subnet): (Ipv4Net, _)| source.contains(&subnet))
    }

    fn goes_to(&self, port: u16, protocol: &str, run: Run) -> bool {
        if self.to == ANYWHERE || self.to == format!("{ANYWHERE}/{protocol}") {
            return true;
        }
        // An address may stand before the ports.
        let ports = self.to.rsplit(' ').next().unwrap_or_default();
        if ports.starts_with(|first: char| first.is_ascii_digit()) {
            return has_port(ports, port, protocol);
        }
        let profile = run(TOOL, &["app", "info", self.to]).map(|answer| answer.stdout);
        profile.is_some_and(|text| text.lines().any(|line| has_port(line.trim(), port, protocol)))
    }
}

const TOOL: &str = "ufw";
const ANYWHERE: &str = "Anywhere";
const ACTIONS: [(&str, bool); 4] =
    [(" ALLOW IN ", true), (" LIMIT IN ", true), (" DENY IN ", false), (" REJECT IN ", false)];
/// How the names of all labs' bridges begin: `lab::address::bridge_name`.
const LABS_BRIDGES: &str = "virbr-";
const DNSMASQ: [(u16, &str); 3] = [(67, "udp"), (53, "udp"), (69, "udp")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_may_see_whether_it_is_on() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(judge_settings(root.path()), None);
        write("etc/default/ufw", "IPV6=yes\nDEFAULT_INPUT_POLICY=\"DROP\"\n");
        write("etc/ufw/ufw.conf", "# Set to yes to start on boot.\nENABLED=no\n");
        assert_eq!(judge_settings(root.path()), None);
        write("etc/ufw/ufw.conf", "# Set to yes to start on boot.\nENABLED=yes\nLOGLEVEL=low\n");
        assert_eq!(judge_settings(root.path()), Some(Access::Unknown));
        write("etc/default/ufw", "DEFAULT_INPUT_POLICY=\"ACCEPT\"\n");
        assert_eq!(judge_settings(root.path()), Some(Access::Open));
    }
}
