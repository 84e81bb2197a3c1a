//! What is wrong with the packets of a guest, done by the host's kernel on the devices of its network cards: loss by nftables, in
//! both directions, and all else by netem, on the way to the guest. All of it needs root, but for a look at the latter.
//! <https://man7.org/linux/man-pages/man8/tc-netem.8.html>, <https://wiki.nftables.org/wiki-nftables/index.php/Nftables_families>

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Context, Error, Result, anyhow, bail};
use fs_err as fs;
use serde_json::Value;

use super::privileged::{NFT, NotRun, TC, Tool, UNSHARE};
use crate::error::hinted;
use crate::lab::fault::{Delay, Flaws, Percent, Wire};

/// The network cards of a guest, as the host has them.
#[derive(Clone, Debug)]
pub(crate) struct Cards<'a> {
    /// The nftables table of this guest: one that nobody else has.
    pub(crate) table: &'a str,
    /// A guest that is off has none.
    devices: Vec<Device>,
}

/// The host's device of a network card.
#[derive(Clone, Debug)]
struct Device {
    /// `vnet0`
    name: String,
    /// No later device has this number, though it may have the name.
    index: u32,
}

impl Device {
    fn of(name: String) -> Result<Self> {
        let path = format!("/sys/class/net/{name}/ifindex");
        let index = fs::read_to_string(path)
            .map_err(|_| anyhow!("this host has no network card `{name}`"))?;
        let index =
            index.trim().parse().with_context(|| format!("reading the number of `{name}`"))?;
        Ok(Self { name, index })
    }
}

impl<'a> Cards<'a> {
    /// The devices of these names.
    ///
    /// # Errors
    /// If they are not there.
    pub(crate) fn new(table: &'a str, devices: Vec<String>) -> Result<Self> {
        let devices = devices.into_iter().map(Device::of).collect::<Result<_>>()?;
        Ok(Self { table, devices })
    }

    /// What of these flaws is in force. Flaws of a kind that is not among them are not looked for.
    ///
    /// # Errors
    /// If the host cannot tell.
    pub(crate) fn look(&self, flaws: Flaws) -> Result<Wire> {
        let mut seen = Vec::new();
        let netem = flaws.of_netem();
        if !netem.is_empty() {
            for Device { name: device, .. } in &self.devices {
                let found =
                    root_of(device)?.filter(|root| root.kind == NETEM).map(|root| root.handle);
                seen.push(found.map(|found| found == handle(netem)));
            }
        }
        if let Some(share) = flaws.loss {
            let chains = self.chains()?;
            let wanted: BTreeSet<String> = self
                .devices
                .iter()
                .flat_map(|it| HOOKS.map(|(hook, _)| chain(share, hook, it)))
                .collect();
            seen.push((!chains.is_empty()).then_some(chains == wanted));
        }
        Ok(match seen.as_slice() {
            seen if seen.iter().all(Option::is_none) => Wire::Whole,
            seen if seen.iter().all(|it| *it == Some(true)) => Wire::InForce(flaws),
            _ => Wire::Between,
        })
    }

    /// Brings the flaws `from`, as far as they are in force, to the flaws `to`.
    ///
    /// # Errors
    /// If the host does not, or somebody else has set something there.
    pub(crate) fn set(&self, from: Flaws, to: Flaws) -> Result<()> {
        for command in self.commands(from, to)? {
            command.run().map_err(|error| by_hand(error, &[command]))?;
        }
        Ok(())
    }

    /// Whether the host can do this to a guest. Nothing of it is done.
    ///
    /// # Errors
    /// If it cannot, with what lacks, or somebody else has set something there.
    pub(crate) fn probe(&self, to: Flaws) -> Result<()> {
        let commands = self.commands(Flaws::default(), to)?;
        if let Some(share) = to.loss {
            let check = NFT.run(&["-c", "-f", "-"], &self.lossy(share));
            check.map_err(|error| by_hand(without_loss(error), &commands))?;
        }
        if let Some(netem) = netem(to) {
            // In a network of its own, which ends with the command.
            let words = ["-n", "tc", "qdisc", "add", "dev", "lo", "root", NETEM];
            let netem: Vec<&str> = netem.split(' ').collect();
            let tried = UNSHARE.run(&[&words[..], &netem].concat(), "");
            tried.map_err(|error| by_hand(without_netem(error), &commands))?;
        }
        Ok(())
    }

    fn commands(&self, from: Flaws, to: Flaws) -> Result<Vec<Line>> {
        let mut commands = Vec::new();
        for Device { name, .. } in &self.devices {
            let words = |words: &str| words.split(' ').map(str::to_owned).collect();
            let line = |args: &str| Line { tool: TC, args: words(args), input: String::new() };
            if let Some(netem) = netem(to) {
                let root = root_of(name)?;
                if let Some(Root { kind, .. }) = root.filter(|root| !root.is_free()) {
                    bail!("network card `{name}` has a qdisc `{kind}` that somebody else has set");
                }
                let own = handle(to.of_netem());
                let replace = format!("qdisc replace dev {name} root handle {own} {NETEM} {netem}");
                commands.push(line(&replace));
            } else if !from.of_netem().is_empty() && root_of(name)?.is_some_and(|it| it.is_own()) {
                // As libvirt makes it.
                commands.push(line(&format!("qdisc replace dev {name} root noqueue")));
            }
        }
        let input = match to.loss {
            Some(share) => Some(self.lossy(share)),
            None => from.loss.map(|_| self.lossless()),
        };
        let args = || vec!["-f".to_owned(), "-".to_owned()];
        commands.extend(input.map(|input| Line { tool: NFT, args: args(), input }));
        Ok(commands)
    }

    /// The chains of our table; none if there is no table.
    fn chains(&self) -> Result<BTreeSet<String>> {
        chains(&NFT.run(&["-j", "list", "chains", "netdev"], "")?, self.table)
    }

    /// What makes packets get lost, in place of what made them so before. It may stand in one line as well.
    fn lossy(&self, share: Percent) -> String {
        let table = self.table;
        let chains = self.devices.iter().flat_map(|device| HOOKS.map(|hook| (hook, device)));
        let chains = chains.map(|((hook, is_this), device)| {
            let (chain, name) = (chain(share, hook, device), &device.name);
            let some = some(share);
            format!(
                "  chain {chain} {{\n    type filter hook {hook} device {name} priority 0;\n    \
                 {is_this} {name} {some}drop;\n  }};\n"
            )
        });
        let chains = chains.collect::<Vec<_>>().concat();
        format!("{}table netdev {table} {{\n{chains}}};\n", self.lossless())
    }

    /// What takes our table away, whether it is there or not.
    fn lossless(&self) -> String {
        let table = self.table;
        format!("table netdev {table} {{\n}};\ndelete table netdev {table};\n")
    }
}

/// A command to be run.
#[derive(Debug)]
struct Line {
    tool: Tool,
    args: Vec<String>,
    input: String,
}

impl Line {
    fn args(&self) -> Vec<&str> {
        self.args.iter().map(String::as_str).collect()
    }

    fn run(&self) -> Result<()> {
        self.tool.run(&self.args(), &self.input).map(drop).map_err(without_netem)
    }
}

/// Who has no root here may have it elsewhere.
fn by_hand(error: Error, commands: &[Line]) -> Error {
    let Some(NotRun::NoRoot(_)) = error.downcast_ref() else { return error };
    let lines = commands.iter().map(|it| it.tool.line(&it.args(), &it.input));
    let lines: Vec<String> = lines.collect();
    hinted(error.to_string(), format!("as root: `{}`", lines.join("; ")))
}

/// What chooses this share of the packets, out of all.
fn some(share: Percent) -> String {
    match share.get() {
        100 => String::new(),
        percent => format!("numgen random mod 100 < {percent} "),
    }
}

/// `loss-20-ingress-vnet0-7`: so it is known what is in force by the names alone.
fn chain(share: Percent, hook: &str, Device { name, index }: &Device) -> String {
    format!("loss-{}-{hook}-{name}-{index}", share.get())
}

/// What netem is told, if any of it is its work.
fn netem(flaws: Flaws) -> Option<String> {
    let Flaws { delay, loss: _, corrupt, duplicate, reorder, rate } = flaws;
    // What is not late cannot be overtaken.
    let delay = match (delay, reorder) {
        (None, Some(_)) => Some("delay 10ms".to_owned()),
        (delay, _) => delay.map(delayed),
    };
    let share = |word: &str, share: Option<Percent>| share.map(|share| format!("{word} {share}"));
    let words = [
        delay,
        share("corrupt", corrupt),
        share("duplicate", duplicate),
        share("reorder", reorder),
        rate.map(|rate| format!("rate {rate}")),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn delayed(Delay { by, jitter }: Delay) -> String {
    jitter.map_or_else(|| format!("delay {by}"), |jitter| format!("delay {by} {jitter}"))
}

/// The qdisc of these flaws has its number from them, so it is known what is in force by that alone.
fn handle(flaws: Flaws) -> String {
    let text = flaws.to_string();
    let sum =
        text.bytes().fold(0_u32, |sum, byte| (sum * 31 + u32::from(byte)) % (OWN.end - OWN.start));
    format!("{:x}:", OWN.start + sum)
}

/// The qdisc at the root of a device.
#[derive(Debug, PartialEq, Eq)]
struct Root {
    kind: String,
    handle: String,
}

impl Root {
    /// Whether one of us set it.
    fn is_own(&self) -> bool {
        let number = u32::from_str_radix(self.handle.trim_end_matches(':'), 16);
        self.kind == NETEM && number.is_ok_and(|number| OWN.contains(&number))
    }

    /// Whether nobody else has set it.
    fn is_free(&self) -> bool {
        self.is_own() || PLAIN.contains(&self.kind.as_str())
    }
}

fn root_of(device: &str) -> Result<Option<Root>> {
    root(&TC.run(&["-j", "qdisc", "show", "dev", device], "")?)
}

/// Reads what `tc -j qdisc show dev` prints.
fn root(printed: &str) -> Result<Option<Root>> {
    let all: Vec<Value> = serde_json::from_str(printed).context("reading what `tc` prints")?;
    let root = all.iter().find(|qdisc| qdisc["root"] == true);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(root.map(|root| Root { kind: text(&root["kind"]), handle: text(&root["handle"]) }))
}

/// Reads what `nft -j list chains netdev` prints.
fn chains(printed: &str, table: &str) -> Result<BTreeSet<String>> {
    let all: Value = serde_json::from_str(printed).context("reading what `nft` prints")?;
    let all = all["nftables"].as_array().into_iter().flatten();
    let own = all.map(|it| &it["chain"]).filter(|chain| chain["table"] == table);
    Ok(own.filter_map(|chain| chain["name"].as_str().map(str::to_owned)).collect())
}

fn without_netem(error: Error) -> Error {
    if !error.to_string().contains("qdisc kind is unknown") {
        return error;
    }
    hinted(
        "this host's kernel has no netem",
        "it is the module `sch_netem`: Debian's kernels have it, Fedora's with the package `kernel-modules-extra`",
    )
}

fn without_loss(error: Error) -> Error {
    if error.is::<NotRun>() {
        return error;
    }
    hinted(error.to_string(), "it takes a kernel of 5.16 or later, with nftables' `numgen`")
}

const NETEM: &str = "netem";
/// What the kernel and libvirt set.
const PLAIN: [&str; 5] = ["noqueue", "pfifo_fast", "fq_codel", "fq", "mq"];
/// The numbers of our own. Those of the kernel are higher, and libvirt has 1.
const OWN: Range<u32> = 0x4000..0x7fff;
/// With what tells a device by its number: since Linux 6.14 a chain stays when its device goes, and takes the next one of that name.
const HOOKS: [(&str, &str); 2] = [("ingress", "iif"), ("egress", "oif")];

#[cfg(test)]
mod tests {
    use super::*;

    fn cards() -> Cards<'static> {
        Cards {
            table: "virtlab-demo-1",
            devices: vec![Device { name: "vnet3".to_owned(), index: 7 }],
        }
    }

    fn percent(text: &str) -> Percent {
        text.parse().unwrap()
    }

    #[test]
    fn netem_is_told_all_but_loss() {
        let delay = Some("100ms~20ms".parse().unwrap());
        let rate = Some("1mbit".parse().unwrap());
        for (flaws, told) in [
            (Flaws::default(), None),
            (Flaws { loss: Some(percent("5%")), ..Flaws::default() }, None),
            (Flaws { delay, ..Flaws::default() }, Some("delay 100ms 20ms")),
            (
                Flaws { reorder: Some(percent("25%")), ..Flaws::default() },
                Some("delay 10ms reorder 25%"),
            ),
            (
                Flaws {
                    delay,
                    loss: Some(percent("5%")),
                    corrupt: Some(percent("1%")),
                    duplicate: Some(percent("2%")),
                    reorder: Some(percent("3%")),
                    rate,
                },
                Some("delay 100ms 20ms corrupt 1% duplicate 2% reorder 3% rate 1mbit"),
            ),
        ] {
            assert_eq!(netem(flaws).as_deref(), told);
        }
    }

    #[test]
    fn loss_is_a_table_that_takes_the_place_of_the_one_before() {
        let script = cards().lossy("20%".parse().unwrap());
        let chain = |hook: &str, is_this: &str| {
            format!(
                "  chain loss-20-{hook}-vnet3-7 {{\n    type filter hook {hook} device vnet3 priority 0;\n    \
                 {is_this} vnet3 numgen random mod 100 < 20 drop;\n  }};\n"
            )
        };
        let gone = "table netdev virtlab-demo-1 {\n};\ndelete table netdev virtlab-demo-1;\n";
        let (ingress, egress) = (chain("ingress", "iif"), chain("egress", "oif"));
        let wanted = format!("{gone}table netdev virtlab-demo-1 {{\n{ingress}{egress}}};\n");
        assert_eq!(script, wanted);
        // nft takes no comparison that always holds.
        let all = cards().lossy("100%".parse().unwrap());
        assert!(all.contains("priority 0;\n    iif vnet3 drop;\n"), "{all}");
    }

    /// The first ones as iproute2 6.1 prints them; the last as its source has it (`q_netem.c`), since no netem was there.
    #[test]
    fn the_root_qdisc_is_read_from_what_tc_prints() {
        for (printed, kind, handle) in [
            (
                r#"[{"kind":"tbf","handle":"8004:","root":true,"refcnt":2,"options":{"rate":125000,"burst":10240,"lat":50000}}]"#,
                "tbf",
                "8004:",
            ),
            (
                r#"[{"kind":"noqueue","handle":"8013:","root":true,"refcnt":2,"options":{}}]"#,
                "noqueue",
                "8013:",
            ),
            (
                r#"[{"kind":"pfifo_fast","handle":"0:","root":true,"refcnt":2,"options":{"bands":3,"priomap":[1,2,2,2,1,2,0,0,1,1,1,1,1,1,1,1],"multiqueue":false}}]"#,
                "pfifo_fast",
                "0:",
            ),
            (
                r#"[{"kind":"ingress","handle":"ffff:","parent":"ffff:fff1"},{"kind":"netem","handle":"4abc:","root":true,"refcnt":2,"options":{"limit":1000,"delay":{"delay":0.1,"jitter":0.02,"correlation":0},"ecn":false,"gap":0}}]"#,
                "netem",
                "4abc:",
            ),
        ] {
            let root = root(printed).unwrap().unwrap();
            assert_eq!((root.kind.as_str(), root.handle.as_str()), (kind, handle));
        }
        assert_eq!(root("[]").unwrap(), None);
        assert!(root("").is_err());
    }

    /// As nftables 1.0.6 prints it.
    #[test]
    fn only_the_chains_of_our_table_are_ours() {
        let printed = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}}, {"chain": {"family": "netdev", "table": "virtlab-demo-1", "name": "loss-20-egress-vnet3", "handle": 1, "dev": "vnet3", "type": "filter", "hook": "egress", "prio": 0, "policy": "accept"}}, {"chain": {"family": "netdev", "table": "virtlab-demo-10", "name": "loss-5-egress-vnet4", "handle": 1}}]}"#;
        let own = chains(printed, "virtlab-demo-1").unwrap();
        assert_eq!(own.into_iter().collect::<Vec<_>>(), ["loss-20-egress-vnet3"]);
        assert!(chains(r#"{"nftables": []}"#, "virtlab-demo-1").unwrap().is_empty());
    }

    #[test]
    fn the_number_of_a_qdisc_is_that_of_its_flaws_alone() {
        let delay = |text: &str| Flaws { delay: Some(text.parse().unwrap()), ..Flaws::default() };
        assert_eq!(handle(delay("100ms")), handle(delay("100ms")));
        assert_ne!(handle(delay("100ms")), handle(delay("101ms")));
        let number = handle(delay("60s"));
        let number = u32::from_str_radix(number.trim_end_matches(':'), 16).unwrap();
        assert!(OWN.contains(&number));
        let root = |kind: &str, handle: String| Root { kind: kind.to_owned(), handle };
        assert!(root(NETEM, handle(delay("60s"))).is_own());
        assert!(!root(NETEM, "8001:".to_owned()).is_free());
        assert!(!root("htb", "4001:".to_owned()).is_free());
        assert!(root("noqueue", "8013:".to_owned()).is_free());
    }
}
