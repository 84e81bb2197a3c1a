use super::*;

/// As it is rendered.
const RENDERED: &str = "\
<domain type='kvm'>
  <name>demo-1</name>
  <metadata><virtlab:lab xmlns:virtlab='x'>1</virtlab:lab></metadata>
  <title>one of 3</title>
  <memory unit='MiB'>512</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <boot dev='hd'/>
    <boot dev='network'/>
  </os>
  <devices>
    <interface type='network'>
      <source network='demo'/>
      <mac address='52:54:00:AB:00:01'/>
    </interface>
    <interface type='bridge'>
      <source bridge='br0'/>
      <mac address='52:54:00:ab:00:02'/>
    </interface>
  </devices>
</domain>";

/// What libvirt makes of it.
const KEPT: &str = "\
<domain type='kvm' id='3'>
  <name>demo-1</name>
  <uuid>459b0cf0-d752-5dd5-a56e-e63a139e4953</uuid>
  <title>one of 3</title>
  <metadata>
    <virtlab:lab xmlns:virtlab='x'>2</virtlab:lab>
  </metadata>
  <memory unit='KiB'>524288</memory>
  <currentMemory unit='KiB'>524288</currentMemory>
  <vcpu placement='static'>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-10.0'>hvm</type>
    <boot dev='hd'/>
    <boot dev='network'/>
  </os>
  <cpu mode='custom' match='exact' check='none'>
    <model fallback='forbid'>qemu64</model>
  </cpu>
  <clock offset='utc'/>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='pci' index='0' model='pcie-root'/>
    <interface type='bridge'>
      <mac address='52:54:00:ab:00:02'/>
      <source bridge='br0'/>
      <model type='rtl8139'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
    </interface>
    <interface type='network'>
      <mac address='52:54:00:ab:00:01'/>
      <source network='demo'/>
      <model type='rtl8139'/>
    </interface>
    <input type='mouse' bus='ps2'/>
    <watchdog model='itco' action='reset'/>
  </devices>
</domain>";

/// The changed lines of the diff, after somebody changed `from` to `to` in what libvirt has.
fn changes(from: &str, to: &str) -> Vec<String> {
    assert!(KEPT.contains(from), "{from}");
    let edited = KEPT.replacen(from, to, 1);
    let diff = difference(RENDERED, &edited, View::Kept).unwrap().unwrap_or_default();
    let is_change =
        |line: &&str| line.starts_with(['+', '-']) && !line[1..].starts_with(['+', '-']);
    let lines = diff.lines().filter(is_change);
    lines.map(|line| format!("{}{}", &line[..1], line[1..].trim())).collect()
}

#[test]
fn what_libvirt_fills_in_is_no_difference() {
    assert_eq!(difference(RENDERED, KEPT, View::Kept).unwrap(), None);
    assert_eq!(difference(RENDERED, KEPT, View::Running).unwrap(), None);
    assert_eq!(difference(RENDERED, RENDERED, View::Kept).unwrap(), None);
}

#[test]
fn a_difference_is_a_unified_diff_of_both_in_one_form() {
    let edited = KEPT.replacen("524288", "1048576", 1);
    let expected = "\
--- wanted
+++ libvirt
@@ -1,5 +1,5 @@
 <domain type='kvm'>
   <title>one of 3</title>
-  <memory unit='KiB'>524288</memory>
+  <memory unit='KiB'>1048576</memory>
   <vcpu>1</vcpu>
   <os>
";
    assert_eq!(difference(RENDERED, &edited, View::Kept).unwrap().unwrap(), expected);
}

#[test]
fn what_somebody_changes_is_a_difference() {
    for (from, to, expected) in [
        (
            "<vcpu placement='static'>1</vcpu>",
            "<vcpu placement='static' current='1'>2</vcpu>",
            &["-<vcpu>1</vcpu>", "+<vcpu current='1'>2</vcpu>"][..],
        ),
        ("bridge='br0'", "bridge='br1'", &["-<source bridge='br0'/>", "+<source bridge='br1'/>"]),
        (
            "pc-q35-10.0",
            "pc-i440fx-10.0",
            &[
                "-<type arch='x86_64' machine='q35'>hvm</type>",
                "+<type arch='x86_64' machine='pc-i440fx-10.0'>hvm</type>",
            ],
        ),
        (
            "<boot dev='hd'/>\n    <boot dev='network'/>",
            "<boot dev='network'/>\n    <boot dev='hd'/>",
            &["+<boot dev='network'/>", "-<boot dev='network'/>"],
        ),
        ("one of 3", "mine", &["-<title>one of 3</title>", "+<title>mine</title>"]),
        (
            "<domain type='kvm'",
            "<domain type='qemu'",
            &["-<domain type='kvm'>", "+<domain type='qemu'>"],
        ),
        (
            "check='none'>\n    <model fallback='forbid'>qemu64",
            "check='partial'>\n    <model fallback='forbid'>EPYC",
            &[
                "+<cpu check='partial' match='exact' mode='custom'>",
                "+<model fallback='forbid'>EPYC</model>",
                "+</cpu>",
            ],
        ),
    ] {
        assert_eq!(changes(from, to), expected, "{from} -> {to}");
    }
}

#[test]
fn what_somebody_adds_and_takes_away_is_a_difference() {
    let disk = "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/>\
                <address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>";
    assert_eq!(
        changes("<input type", &format!("{disk}<input type")),
        ["+<disk device='cdrom' type='file'>", "+<target bus='sata' dev='sda'/>", "+</disk>"]
    );
    assert_eq!(
        changes("<clock", "<memtune><hard_limit unit='GiB'>1</hard_limit></memtune><clock"),
        ["+<memtune>", "+<hard_limit unit='KiB'>1048576</hard_limit>", "+</memtune>"]
    );
    assert_eq!(
        changes("<model type='rtl8139'/>", "<model type='rtl8139'/><link state='down'/>"),
        ["+<link state='down'/>"]
    );
    let card = &KEPT[KEPT.find("<interface type='network'>").unwrap()..];
    let card = &card[..card.find("<input").unwrap()];
    assert_eq!(
        changes(card, ""),
        [
            "-<interface type='network'>",
            "-<source network='demo'/>",
            "-<mac address='52:54:00:AB:00:01'/>",
            "-</interface>"
        ]
    );
}

#[test]
fn everything_in_a_network_is_ours_but_what_libvirt_gives_it() {
    let rendered = "<network xmlns:dnsmasq='d'><name>demo</name><forward mode='nat'/>\
        <bridge name='vl0' stp='off' delay='0'/>\
        <ip address='10.0.0.1' prefix='24'><dhcp><host mac='52:54:00:ab:00:01' ip='10.0.0.2'/></dhcp></ip>\
        <dnsmasq:options><dnsmasq:option value='dhcp-ignore-clid'/></dnsmasq:options></network>";
    let there = rendered
        .replace(
            "<forward mode='nat'/>",
            "<forward mode='nat'><nat><port start='1024' end='65535'/></nat></forward>",
        )
        .replace("<bridge", "<mac address='52:54:00:00:00:01'/><bridge")
        .replace("<network ", "<network connections='3' ");
    assert_eq!(difference(rendered, &there, View::Running).unwrap(), None);
    for (from, to) in [
        ("</dhcp>", "<host mac='52:54:00:ab:00:09' ip='10.0.0.9'/></dhcp>"),
        ("10.0.0.2", "10.0.0.3"),
        ("mode='nat'", "mode='route'"),
        ("</dnsmasq:options>", "<dnsmasq:option value='x'/></dnsmasq:options>"),
        ("<ip ", "<dns enable='no'/><ip "),
    ] {
        let there = there.replace(from, to);
        assert!(difference(rendered, &there, View::Kept).unwrap().is_some(), "{to}");
    }
}

#[test]
fn sizes_are_the_same_in_whatever_unit() {
    for (text, unit, expected) in [
        ("512", "MiB", Some(524_288)),
        ("1", "GB", Some(976_563)),
        ("1", "T", Some(1 << 30)),
        ("4096", "bytes", Some(4)),
        ("1", "inch", None),
        ("much", "KiB", None),
        ("18446744073709551615", "GiB", None),
    ] {
        assert_eq!(kib(text, unit), expected, "{text} {unit}");
    }
}

#[test]
fn a_limit_that_was_taken_away_is_no_difference() {
    let tuned = |tune: &str| KEPT.replace("<vcpu ", &format!("<cputune>{tune}</cputune><vcpu "));
    let differs = |tune: &str| difference(RENDERED, &tuned(tune), View::Running).unwrap().is_some();
    assert!(differs("<quota>10000</quota>"));
    assert!(differs("<shares>512</shares><quota>-1</quota>"));
    assert!(!differs("<quota>-1</quota>"));
}
