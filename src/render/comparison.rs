//! Whether what libvirt has of an object is what was rendered for it.
//!
//! libvirt fills in what an XML leaves open: addresses, controllers, machine types, defaults, others with
//! each version. So all that was rendered must be there, and what is there beside it counts only where libvirt
//! adds nothing by itself: a disk or a network card more, a limit, a reservation.

#[cfg(test)]
mod tests;

use anyhow::Result;
use similar::TextDiff;

use super::element::Element;
use super::limits::is_no_limit;

/// What of an object of libvirt's is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// What libvirt keeps, and uses when the object is started.
    Kept,
    /// What runs. Title and description can be changed in it and do nothing.
    Running,
}

/// The lines in which what libvirt has differs from what was rendered, as a unified diff; `None` if it is
/// the same.
///
/// # Errors
/// If either is not well-formed.
pub(crate) fn difference(rendered: &str, there: &str, view: View) -> Result<Option<String>> {
    let mut wanted = canonical(Element::parse(rendered)?);
    let mut there = canonical(Element::parse(there)?);
    for element in [&mut wanted, &mut there] {
        leave_out(element, view);
    }
    let seen = as_far_as_rendered(&wanted, &there, &[]);
    if seen == wanted {
        return Ok(None);
    }
    let (wanted, seen) = (wanted.to_string(), seen.to_string());
    let diff = TextDiff::from_lines(&wanted, &seen);
    Ok(Some(diff.unified_diff().context_radius(CONTEXT).header("wanted", "libvirt").to_string()))
}

/// Names and UUIDs are told by the mark, which the plan compares.
fn leave_out(object: &mut Element, view: View) {
    object.attributes.retain(|name, _| {
        !["id", "connections"].contains(&name.as_str()) && !name.starts_with("xmlns:")
    });
    let is_network = object.name == "network";
    let says_nothing = |name: &str| match name {
        "name" | "uuid" | "metadata" => true,
        // A network has its title since libvirt 9.7, and may be older than that.
        "title" | "description" => view == View::Running || is_network,
        // libvirt spells out what the host's processor is.
        "cpu" => view == View::Running,
        _ => false,
    };
    object.children.retain(|child| !says_nothing(&child.name));
}

/// The same in one form: sizes in KiB, and without limits that are none.
fn canonical(mut element: Element) -> Element {
    let is_tuned = |child: &Element| child.name != "cputune" || !child.children.is_empty();
    let children = element.children.into_iter().filter(|child| !is_no_limit(child));
    element.children = children.map(canonical).filter(is_tuned).collect();
    let default = SIZES.contains(&element.name.as_str()).then_some("KiB");
    let unit = element.attribute("unit").or(default);
    if let Some(kib) = unit.and_then(|unit| kib(&element.text, unit)) {
        element.text = kib.to_string();
        element.attributes.insert("unit".to_owned(), "KiB".to_owned());
    }
    element
}

/// <https://libvirt.org/formatdomain.html#memory-allocation>
fn kib(text: &str, unit: &str) -> Option<u64> {
    let bytes: u64 = match unit {
        "b" | "bytes" => 1,
        "KB" => 1000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    Some(text.parse::<u64>().ok()?.checked_mul(bytes)?.div_ceil(1 << 10))
}

/// What is there, without what libvirt filled in, in the order of what was rendered.
fn as_far_as_rendered(wanted: &Element, there: &Element, path: &[&str]) -> Element {
    let path = [path, &[wanted.name.as_str()]].concat();
    let mut seen = Element { name: there.name.clone(), ..Element::default() };
    for (name, value) in &there.attributes {
        let Some(rendered) = wanted.attribute(name) else {
            if ADDED_ATTRIBUTES.contains(&(wanted.name.as_str(), name)) {
                seen.attributes.insert(name.clone(), value.clone());
            }
            continue;
        };
        let value = if is_same(name, rendered, value) { rendered } else { value };
        seen.attributes.insert(name.clone(), value.to_owned());
    }
    if !wanted.text.is_empty() || wanted.children.is_empty() {
        seen.text.clone_from(&there.text);
    }
    let mut left: Vec<&Element> = there.children.iter().collect();
    let matches = matches(&wanted.children, &mut left, &path);
    seen.children.extend(matches.into_iter().flatten());
    let added = left.into_iter().filter(|child| was_added(child, wanted, &path));
    seen.children.extend(added.cloned().map(without_addresses));
    seen
}

/// For each of what was rendered what there is of it. What is there is taken out of `left`.
fn matches(wanted: &[Element], left: &mut Vec<&Element>, path: &[&str]) -> Vec<Option<Element>> {
    let mut found: Vec<Option<Element>> = vec![None; wanted.len()];
    // What is the same; the order of boot devices means something.
    for (place, wanted) in found.iter_mut().zip(wanted).filter(|(_, it)| it.name != "boot") {
        let same = left.iter().position(|there| {
            there.name == wanted.name && as_far_as_rendered(wanted, there, path) == *wanted
        });
        *place = same.map(|at| as_far_as_rendered(wanted, left.remove(at), path));
    }
    // What may have become of it.
    for (place, wanted) in found.iter_mut().zip(wanted).filter(|(place, _)| place.is_none()) {
        let other = left.iter().position(|there| there.name == wanted.name);
        *place = other.map(|at| as_far_as_rendered(wanted, left.remove(at), path));
    }
    found
}

/// Whether an attribute's value is what was rendered, in libvirt's words.
fn is_same(name: &str, rendered: &str, there: &str) -> bool {
    let machine = || {
        let long = if rendered == "pc" { "pc-i440fx" } else { rendered };
        // A machine type without its version means the newest one.
        let version = |prefix: &str| there.strip_prefix(prefix)?.strip_prefix('-');
        let is_version = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        [format!("pc-{long}"), long.to_owned()]
            .iter()
            .filter_map(|prefix| version(prefix))
            .any(is_version)
    };
    rendered == there
        || match name {
            "address" | "mac" => rendered.eq_ignore_ascii_case(there),
            "machine" => machine(),
            _ => false,
        }
}

/// Whether an element that was not rendered is somebody's, and not what libvirt fills in.
fn was_added(element: &Element, parent: &Element, path: &[&str]) -> bool {
    let name = element.name.as_str();
    match path {
        ["domain"] => {
            ADDED_TO_DOMAIN.contains(&name) || (name == "cpu" && !is_default_cpu(element))
        }
        ["domain", "devices"] => ADDED_DEVICES.contains(&name),
        ["domain", "devices", _] => ADDED_TO_DEVICE.contains(&name),
        ["domain", "os"] => ADDED_TO_OS.contains(&name),
        ["network"] => ADDED_TO_NETWORK.contains(&name),
        ["network", ..] => parent.name != "forward",
        _ => false,
    }
}

/// Where no processor was rendered, libvirt writes down which one QEMU takes.
fn is_default_cpu(cpu: &Element) -> bool {
    cpu.attribute("mode") == Some("custom") && cpu.attribute("check") == Some("none")
}

/// A device that was added, as somebody would write it.
fn without_addresses(mut element: Element) -> Element {
    element.children.retain(|child| !["address", "alias"].contains(&child.name.as_str()));
    element
}

const CONTEXT: usize = 2;

/// What is in KiB where no unit is named.
const SIZES: [&str; 3] = ["memory", "currentMemory", "maxMemory"];

/// Attributes that libvirt gives no element by itself.
const ADDED_ATTRIBUTES: [(&str, &str); 13] = [
    ("vcpu", "current"),
    ("vcpu", "cpuset"),
    ("driver", "cache"),
    ("driver", "io"),
    ("driver", "discard"),
    ("driver", "queues"),
    ("source", "portgroup"),
    ("host", "name"),
    ("host", "mac"),
    ("network", "ipv6"),
    ("network", "trustGuestRxFilters"),
    ("bridge", "zone"),
    ("domain", "register"),
];

const ADDED_TO_DOMAIN: [&str; 17] = [
    "blkiotune",
    "cputune",
    "genid",
    "idmap",
    "iothreads",
    "keywrap",
    "launchSecurity",
    "maxMemory",
    "memoryBacking",
    "memtune",
    "numatune",
    "perf",
    "qemu:commandline",
    "qemu:override",
    "sysinfo",
    "throttlegroups",
    "bootloader",
];

const ADDED_TO_OS: [&str; 7] =
    ["boot", "bootmenu", "kernel", "initrd", "cmdline", "smbios", "bios"];

const ADDED_DEVICES: [&str; 22] = [
    "channel",
    "console",
    "crypto",
    "disk",
    "filesystem",
    "graphics",
    "hostdev",
    "hub",
    "interface",
    "lease",
    "memory",
    "parallel",
    "redirdev",
    "rng",
    "serial",
    "shmem",
    "smartcard",
    "sound",
    "tpm",
    "video",
    "vsock",
    "pstore",
];

const ADDED_TO_DEVICE: [&str; 19] = [
    "bandwidth",
    "blockio",
    "boot",
    "encryption",
    "filterref",
    "iotune",
    "link",
    "mtu",
    "port",
    "rate",
    "readonly",
    "rom",
    "serial",
    "shareable",
    "throttlefilters",
    "transient",
    "tune",
    "virtualport",
    "vlan",
];

const ADDED_TO_NETWORK: [&str; 8] =
    ["bandwidth", "dns", "forward", "ip", "portgroup", "route", "virtualport", "vlan"];
