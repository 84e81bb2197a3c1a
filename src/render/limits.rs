//! The limits in a domain's XML that a fault sets: what a node has no more of, and what time it has.
//! <https://libvirt.org/formatdomain.html#cpu-tuning>, <https://libvirt.org/formatdomain.html#time-keeping>

use super::element::Element;
use crate::lab::fault::{ClockOffset, CpuShare, DiskPace, Limit, LimitName};
use crate::lab::size::MemoryMib;

/// The limit of this name in a domain, as far as a fault could have set it.
pub(crate) fn of(domain: &Element, name: LimitName) -> Option<Limit> {
    match name {
        LimitName::Cpu => cpu_share(domain).map(Limit::Cpu),
        LimitName::Memory => memory(domain).map(Limit::Memory),
        LimitName::Disk => disk_pace(domain).map(Limit::Disk),
        LimitName::Clock => clock_offset(domain).map(Limit::Clock),
    }
}

/// Whether a domain has a limit of this name, whoever set it.
pub(crate) fn has(domain: &Element, name: LimitName) -> bool {
    match name {
        LimitName::Cpu => {
            let tune = domain.child("cputune").into_iter().flat_map(|tune| &tune.children);
            tune.filter(|child| !is_no_limit(child))
                .any(|child| CPU_LIMITS.contains(&child.name.as_str()))
        }
        LimitName::Memory => {
            let [most, now] = ["memory", "currentMemory"].map(|name| kib(domain, name));
            now.is_some() && now != most
        }
        LimitName::Disk => disk(domain).is_some_and(|disk| disk.child("iotune").is_some()),
        LimitName::Clock => {
            domain.child("clock").is_some_and(|clock| clock.attribute("offset") != Some("utc"))
        }
    }
}

/// A domain with this limit.
pub(crate) fn with(mut domain: Element, limit: Limit) -> Element {
    match limit {
        Limit::Cpu(share) => {
            let quota = domain.child_mut("cputune").child_mut("quota");
            quota.text = cpu_quota(share).to_string();
        }
        Limit::Memory(memory) => {
            let now = domain.child_mut("currentMemory");
            now.attributes.insert("unit".to_owned(), "KiB".to_owned());
            now.text = (memory.bytes() >> 10).to_string();
        }
        Limit::Clock(offset) => {
            let clock = &mut domain.child_mut("clock").attributes;
            for (name, value) in [
                ("offset", "variable"),
                ("adjustment", &offset.seconds().to_string()),
                ("basis", "utc"),
            ] {
                clock.insert(name.to_owned(), value.to_owned());
            }
        }
        Limit::Disk(pace) => {
            if let Some(disk) = disk_mut(&mut domain) {
                let tune = disk.child_mut("iotune");
                for (name, most) in
                    [("total_bytes_sec", pace.bytes()), ("total_iops_sec", pace.iops())]
                {
                    tune.children.retain(|child| child.name != name);
                    if most > 0 {
                        tune.child_mut(name).text = most.to_string();
                    }
                }
            }
        }
    }
    domain
}

/// A domain without the limit of this name that a fault set.
pub(crate) fn without(mut domain: Element, name: LimitName) -> Element {
    match name {
        LimitName::Cpu => {
            let tune = domain.child_mut("cputune");
            tune.children.retain(|child| child.name != "quota");
            let is_empty = tune.children.is_empty();
            domain.children.retain(|child| child.name != "cputune" || !is_empty);
        }
        LimitName::Clock => {
            if let Some(clock) = domain.children.iter_mut().find(|child| child.name == "clock") {
                let set = &mut clock.attributes;
                set.retain(|name, _| name != "adjustment" && name != "basis");
                set.insert("offset".to_owned(), "utc".to_owned());
            }
        }
        // libvirt makes it as much as there is.
        LimitName::Memory => domain.children.retain(|child| child.name != "currentMemory"),
        LimitName::Disk => {
            if let Some(disk) = disk_mut(&mut domain) {
                disk.children.retain(|child| child.name != "iotune");
            }
        }
    }
    domain
}

/// Whether a domain has a balloon, by which memory is taken from its guest.
/// <https://libvirt.org/formatdomain.html#memory-balloon-device>
pub(crate) fn has_balloon(domain: &Element) -> bool {
    let balloon = domain.child("devices").and_then(|devices| devices.child("memballoon"));
    balloon.is_some_and(|balloon| balloon.attribute("model") != Some("none"))
}

/// By which name the first disk of a domain goes, if it has one: `vda`.
pub(crate) fn disk_target(domain: &Element) -> Option<&str> {
    disk(domain)?.child("target")?.attribute("dev")
}

/// How many microseconds of each [`PERIOD_US`] a processor has.
pub(crate) fn cpu_quota(share: CpuShare) -> i64 {
    i64::from(share.percent()) * PERIOD_US / 100
}

/// What libvirt writes of a running domain whose limit was taken away.
pub(crate) fn is_no_limit(limit: &Element) -> bool {
    limit.name.ends_with("quota") && limit.text.starts_with('-')
}

fn cpu_share(domain: &Element) -> Option<CpuShare> {
    let quota: i64 = domain.child("cputune")?.child("quota")?.text.parse().ok()?;
    let percent = u64::try_from(quota * 100 / PERIOD_US).ok()?;
    CpuShare::of_percent(percent).filter(|share| cpu_quota(*share) == quota)
}

fn memory(domain: &Element) -> Option<MemoryMib> {
    let now = kib(domain, "currentMemory")?;
    let is_less = now % 1024 == 0 && Some(now) < kib(domain, "memory");
    is_less.then(|| MemoryMib::try_from(now / 1024).ok()).flatten()
}

fn disk_pace(domain: &Element) -> Option<DiskPace> {
    let tune = disk(domain)?.child("iotune")?;
    let most = |name| tune.child(name).map_or(Some(0), |child| child.text.parse::<u64>().ok());
    DiskPace::of(most("total_iops_sec")?, most("total_bytes_sec")?)
}

fn clock_offset(domain: &Element) -> Option<ClockOffset> {
    let clock = domain.child("clock").filter(|it| it.attribute("offset") == Some("variable"))?;
    let is_utc = matches!(clock.attribute("basis"), None | Some("utc"));
    let seconds = clock.attribute("adjustment")?.parse().ok()?;
    ClockOffset::of_seconds(seconds).filter(|_| is_utc)
}

fn disk(domain: &Element) -> Option<&Element> {
    domain.child("devices")?.children.iter().find(|device| is_disk(device))
}

fn disk_mut(domain: &mut Element) -> Option<&mut Element> {
    domain.child_mut("devices").children.iter_mut().find(|device| is_disk(device))
}

fn is_disk(device: &Element) -> bool {
    device.name == "disk" && matches!(device.attribute("device"), None | Some("disk"))
}

/// As libvirt writes it, which is always in this unit.
fn kib(domain: &Element, name: &str) -> Option<u64> {
    let size = domain.child(name).filter(|size| size.attribute("unit") == Some("KiB"))?;
    size.text.parse().ok()
}

/// The kernel's own period, which every control group has from the start.
const PERIOD_US: i64 = 100_000;

/// What of `<cputune>` would not go together with a share of ours.
const CPU_LIMITS: [&str; 4] = ["quota", "period", "global_quota", "global_period"];

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: &str = "<domain><devices><disk device='cdrom'/><disk><target dev='vda'/></disk></devices></domain>";

    #[test]
    fn the_first_disk_is_meant_and_a_pace_that_no_fault_set_is_not_ours() {
        assert_eq!(disk_target(&parse(DISK)), Some("vda"));
        assert_eq!(disk_target(&parse("<domain><devices/></domain>")), None);
        for tune in ["<read_iops_sec>5</read_iops_sec>", "<total_bytes_sec>100</total_bytes_sec>"] {
            let xml = DISK.replace("</disk>", &format!("<iotune>{tune}</iotune></disk>"));
            assert_eq!(of(&parse(&xml), LimitName::Disk), None, "{tune}");
            assert!(has(&parse(&xml), LimitName::Disk), "{tune}");
        }
    }

    fn parse(xml: &str) -> Element {
        Element::parse(xml).unwrap()
    }

    #[test]
    fn a_limit_that_comes_and_goes_leaves_nothing() {
        let cpu = Limit::Cpu("10%".parse().unwrap());
        let memory = Limit::Memory("300MiB".parse().unwrap());
        let clock = Limit::Clock("-1h".parse().unwrap());
        for (before, limit) in [
            ("<domain><name>n</name></domain>", cpu),
            ("<domain><cputune><shares>512</shares></cputune></domain>", cpu),
            ("<domain><memory unit='KiB'>524288</memory></domain>", memory),
            (DISK, Limit::Disk("50iops,1MiB/s".parse().unwrap())),
            ("<domain><clock offset='utc'><timer name='rtc'/></clock></domain>", clock),
            (DISK, Limit::Disk("50iops".parse().unwrap())),
            (DISK, Limit::Disk("64KiB/s".parse().unwrap())),
        ] {
            let before = parse(before);
            let limited = with(before.clone(), limit);
            assert_eq!(of(&limited, limit.name()), Some(limit));
            assert!(has(&limited, limit.name()) && !has(&before, limit.name()));
            assert_eq!(with(limited.clone(), limit), limited);
            assert_eq!(without(limited, limit.name()), before);
            assert_eq!(of(&before, limit.name()), None);
        }
    }

    #[test]
    fn a_clock_that_no_fault_set_is_its_own() {
        for (clock, is_own) in [
            ("", false),
            ("<clock offset='utc'/>", false),
            ("<clock offset='localtime'/>", true),
            ("<clock offset='variable' adjustment='0' basis='utc'/>", true),
            ("<clock offset='variable' adjustment='60' basis='localtime'/>", true),
            ("<clock offset='absolute' start='0'/>", true),
        ] {
            let domain = parse(&format!("<domain>{clock}</domain>"));
            assert_eq!(of(&domain, LimitName::Clock), None, "{clock}");
            assert_eq!(has(&domain, LimitName::Clock), is_own, "{clock}");
        }
    }

    #[test]
    fn memory_is_limited_where_it_is_less_than_all() {
        for (now, is_limited, ours) in [
            ("", false, None),
            ("<currentMemory unit='KiB'>524288</currentMemory>", false, None),
            ("<currentMemory unit='KiB'>307200</currentMemory>", true, Some("300MiB")),
            ("<currentMemory unit='KiB'>307201</currentMemory>", true, None),
        ] {
            let xml = format!("<domain><memory unit='KiB'>524288</memory>{now}</domain>");
            let ours = ours.map(|ours| Limit::Memory(ours.parse().unwrap()));
            assert_eq!(of(&parse(&xml), LimitName::Memory), ours, "{now}");
            assert_eq!(has(&parse(&xml), LimitName::Memory), is_limited, "{now}");
        }
        for (balloon, is_there) in [
            ("", false),
            ("<memballoon model='none'/>", false),
            ("<memballoon model='virtio'/>", true),
        ] {
            let xml = format!("<domain><devices>{balloon}</devices></domain>");
            assert_eq!(has_balloon(&parse(&xml)), is_there, "{balloon}");
        }
    }

    #[test]
    fn what_no_fault_set_is_no_share_of_ours() {
        for (tune, is_there) in [
            ("<quota>10500</quota>", true),
            ("<quota>200000</quota>", true),
            ("<period>50000</period>", true),
            ("<global_quota>10000</global_quota>", true),
            ("<quota>-1</quota>", false),
            ("<quota>18446744073709551</quota>", true),
            ("<shares>512</shares>", false),
        ] {
            let domain = parse(&format!("<domain><cputune>{tune}</cputune></domain>"));
            assert_eq!(of(&domain, LimitName::Cpu), None, "{tune}");
            assert_eq!(has(&domain, LimitName::Cpu), is_there, "{tune}");
        }
    }
}
