//! The tools' answers are as Debian 12's firewalld 1.3 and ufw 0.36 gave them.

use super::*;

#[test]
fn where_no_firewall_runs_nothing_is_in_the_way() {
    assert_eq!(judge(&lab(), &|_, _| None).access, Access::NoFirewall);
    let stopped = |_: &str, _: &[&str]| Some(Answer { status: 252, stdout: String::new() });
    assert_eq!(firewalld::judge(&lab(), &stopped), None);
}

#[test]
fn libvirts_zone_keeps_nodes_from_the_boot_server() {
    let verdict = firewalld(&lab(), ZONES, "").unwrap();
    assert_eq!(
        verdict,
        Verdict {
            access: Access::Closed,
            firewall: "firewalld, zone `libvirt`".to_owned(),
            ports: "8471/tcp".to_owned(),
            command: "sudo firewall-cmd --zone=libvirt --add-port=8470-8869/tcp && \
                      sudo firewall-cmd --permanent --zone=libvirt --add-port=8470-8869/tcp"
                .to_owned(),
        }
    );
}

#[test]
fn a_zone_is_opened_in_many_ways() {
    let zone = |change: (&str, &str)| ZONES.replacen(change.0, change.1, 1);
    for (change, access) in [
        (("  ports: \n", "  ports: 8470-8869/tcp\n"), Access::Open),
        (("  ports: \n", "  ports: 8471/udp 80/tcp\n"), Access::Closed),
        (("protocols: icmp", "protocols: tcp icmp"), Access::Open),
        (("ssh tftp", "ssh tftp virtlab"), Access::Open),
        (("\trule priority=\"32767\" reject\n", ""), Access::Open),
        (
            (
                "\trule p",
                "\trule family=\"ipv4\" port port=\"8471\" protocol=\"tcp\" accept\n\trule p",
            ),
            Access::Open,
        ),
        (
            (
                "\trule p",
                "\trule family=\"ipv4\" source address=\"10.0.0.0/8\" port port=\"8471\" \
                 protocol=\"tcp\" accept\n\trule p",
            ),
            Access::Unknown,
        ),
    ] {
        assert_eq!(firewalld(&lab(), &zone(change), "").unwrap().access, access, "{change:?}");
    }
}

#[test]
fn a_bridge_of_the_hosts_has_a_zone_or_the_default_one() {
    let bridge = |name: &str| Needs { bridge: name.to_owned(), maker: Maker::Host, ..lab() };
    let decides = |name: &str| firewalld(&bridge(name), ZONES, "").unwrap();
    assert_eq!(decides("br0").firewall, "firewalld, zone `trusted`");
    assert_eq!(decides("br0").access, Access::Open);
    assert_eq!(decides("br1").firewall, "firewalld, zone `public`");
    assert_eq!(decides("br1").access, Access::Closed);
}

#[test]
fn a_policy_comes_before_the_zone_of_routed_networks() {
    let routed = Needs { maker: Maker::LibvirtRouted, ..lab() };
    let verdict = firewalld(&routed, ZONES, POLICIES).unwrap();
    assert_eq!(verdict.access, Access::Closed);
    assert_eq!(verdict.firewall, "firewalld, policy `libvirt-to-host`");
    let open = POLICIES.replace("ports: \n", "ports: 8470-8869/tcp\n");
    assert_eq!(firewalld(&routed, ZONES, &open).unwrap().access, Access::Open);
}

#[test]
fn a_port_that_somebody_named_is_opened_alone() {
    let verdict = firewalld(&Needs { boot_port: 80, ..lab() }, ZONES, "").unwrap();
    assert!(
        verdict.command.ends_with("--permanent --zone=libvirt --add-port=80/tcp"),
        "{verdict:?}"
    );
    let verdict = ufw(&Needs { boot_port: 80, ..lab() }, UFW).unwrap();
    assert_eq!(verdict.command, "sudo ufw allow in on virbr-+ proto tcp to any port 80");
}

#[test]
fn who_may_not_see_the_zones_cannot_tell() {
    let refused = |_: &str, _: &[&str]| Some(Answer { status: 253, stdout: String::new() });
    let verdict = firewalld::judge(&lab(), &refused).unwrap();
    assert_eq!(verdict.access, Access::Unknown);
    assert!(verdict.command.starts_with("sudo firewall-cmd --zone=libvirt --add-port="));
}

#[test]
fn ufws_rules_are_looked_at_in_their_order() {
    let with = |rule: &str| UFW.replace("22/tcp  ", &format!("{rule}\n22/tcp  "));
    for (rule, access) in [
        ("", Access::Closed),
        ("8470:8869/tcp on virbr-+   ALLOW IN    Anywhere", Access::Open),
        (
            "8470:8869/tcp on virbr-01234567 ALLOW IN    Anywhere                   # labs",
            Access::Open,
        ),
        ("8470:8869/tcp on br0       ALLOW IN    Anywhere", Access::Closed),
        ("8470:8869/tcp (v6) on virbr-+ ALLOW IN    Anywhere (v6)", Access::Closed),
        ("8471/udp                   ALLOW IN    Anywhere", Access::Closed),
        ("8471                       LIMIT IN    Anywhere", Access::Open),
        ("Anywhere                   ALLOW IN    10.0.0.0/8", Access::Open),
        ("Anywhere                   ALLOW IN    10.9.9.0/24", Access::Closed),
        ("10.1.2.1 8471/tcp          ALLOW IN    Anywhere", Access::Open),
        ("OpenSSH                    ALLOW IN    Anywhere", Access::Closed),
        ("Virtlab Boot               ALLOW IN    Anywhere", Access::Open),
        ("8471/tcp  DENY IN  Anywhere\n8471/tcp  ALLOW IN  Anywhere", Access::Closed),
    ] {
        assert_eq!(ufw(&lab(), &with(rule)).unwrap().access, access, "{rule}");
    }
    let allowing = UFW.replace("deny (incoming)", "allow (incoming)");
    assert_eq!(ufw(&lab(), &allowing).unwrap().access, Access::Open);
    assert_eq!(ufw(&lab(), "Status: inactive\n"), None);
}

#[test]
fn ufw_keeps_nodes_from_dnsmasq_where_libvirt_opens_nothing_for_it() {
    let needs = Needs { dnsmasq: true, ..lab() };
    let verdict = ufw(&needs, UFW).unwrap();
    assert_eq!(verdict.ports, "8471/tcp, 67/udp, 53/udp, 69/udp");
    assert_eq!(
        verdict.command,
        "sudo ufw allow in on virbr-+ proto udp to any port 53,67,69 && \
         sudo ufw allow in on virbr-+ proto tcp to any port 53,8470:8869"
    );
    let open = UFW.replace(
        "22/tcp  ",
        "53,67,69/udp on virbr-+    ALLOW IN    Anywhere\n\
         53,8470:8869/tcp on virbr-+ ALLOW IN    Anywhere\n22/tcp  ",
    );
    assert_eq!(ufw(&needs, &open).unwrap().access, Access::Open);
}

#[test]
fn libvirts_setting_says_which_rules_it_makes() {
    assert!(asks_for_iptables(
        "# firewall_backend = \"nftables\"\nfirewall_backend = \"iptables\"\n"
    ));
    assert!(!asks_for_iptables("#firewall_backend = \"iptables\"\n"));
    assert!(!libvirt_uses_nftables(10_003_000.into()));
}

#[test]
fn a_lab_says_what_its_nodes_need() {
    let mut lab = crate::lab::tests::lab(1);
    let needs = Needs::of(&lab, None, true).unwrap();
    assert!(needs.bridge.starts_with("virbr-") && needs.dnsmasq, "{needs:?}");
    lab.spec.network = Network::Bridge("br0".to_owned());
    let needs = Needs::of(&lab, Some("br0"), true).unwrap();
    assert_eq!((needs.bridge.as_str(), needs.maker, needs.dnsmasq), ("br0", Maker::Host, false));
    lab.spec.network = Network::Existing("lan".to_owned());
    assert!(Needs::of(&lab, None, true).is_none());
}

fn lab() -> Needs {
    Needs {
        bridge: "virbr-01234567".to_owned(),
        maker: Maker::Libvirt,
        subnet: Some("10.1.2.0/24".parse().unwrap()),
        boot_port: 8471,
        dnsmasq: false,
    }
}

fn firewalld(needs: &Needs, zones: &str, policies: &str) -> Option<Verdict> {
    firewalld::judge(needs, &|_, args| {
        let stdout = match args[0] {
            "--list-all-zones" => zones,
            "--list-all-policies" => policies,
            "--get-default-zone" => "public\n",
            "--info-service=virtlab" => "virtlab\n  ports: 8470-8869/tcp\n  protocols: \n",
            _ => "",
        };
        Some(Answer { status: 0, stdout: stdout.to_owned() })
    })
}

fn ufw(needs: &Needs, status: &str) -> Option<Verdict> {
    ufw::judge(needs, &|_, args| {
        let stdout = match args {
            ["app", "info", "Virtlab Boot"] => {
                "Profile: Virtlab\n\nPorts:\n  8470:8869/tcp\n  69/udp\n"
            }
            ["app", ..] => "Profile: OpenSSH\nTitle: Secure shell\n\nPort:\n  22/tcp\n",
            _ => status,
        };
        Some(Answer { status: 0, stdout: stdout.to_owned() })
    })
}

const ZONES: &str = "
libvirt (active)
  target: ACCEPT
  icmp-block-inversion: no
  interfaces: virbr0
  sources: 
  services: dhcp dhcpv6 dns ssh tftp
  ports: 
  protocols: icmp ipv6-icmp
  forward: no
  masquerade: no
  forward-ports: 
  source-ports: 
  icmp-blocks: 
  rich rules: 
\trule priority=\"32767\" reject

libvirt-routed
  target: default
  icmp-block-inversion: no
  interfaces: 
  services: 
  ports: 
  rich rules: 

public
  target: default
  icmp-block-inversion: no
  interfaces: 
  services: dhcpv6-client ssh
  ports: 
  protocols: 
  forward: yes
  rich rules: 

trusted
  target: ACCEPT
  interfaces: br0
  services: 
  ports: 
  rich rules: 
";

const POLICIES: &str = "
allow-host-ipv6 (active)
  priority: -15000
  target: CONTINUE
  ingress-zones: ANY
  egress-zones: HOST
  services: 
  ports: 
  rich rules: 
\trule family=\"ipv6\" icmp-type name=\"neighbour-advertisement\" accept

libvirt-to-host
  priority: -1
  target: REJECT
  ingress-zones: libvirt-routed
  egress-zones: HOST
  services: dhcp dhcpv6 dns ssh tftp
  ports: 
  protocols: icmp ipv6-icmp
  rich rules: 
";

const UFW: &str = "Status: active
Logging: on (low)
Default: deny (incoming), allow (outgoing), deny (routed)
New profiles: skip

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW IN    Anywhere                  
80,443/tcp                 DENY IN     10.0.0.0/8                
Anywhere on eth0           ALLOW IN    Anywhere                  
22/tcp (v6)                ALLOW IN    Anywhere (v6)             

";
