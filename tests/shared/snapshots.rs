//! What snapshots of libvirt's XML leave out, because it says nothing or changes with everything.

use insta::Settings;

/// Leaves out the addresses beyond the third node's, virtlab's version and the lab's specification.
pub(crate) fn filter_xml(settings: &mut Settings) {
    // An address for each node that the lab may get.
    settings.add_filter(
        r"(?m)(?:^ *<host mac='[^']*' name='[\w-]+-(?:[4-9]|\d{2,})' ip='([^']*)'/>\n)+",
        "      [HOSTS UP TO $1]\n",
    );
    settings.add_filter(
        r"(?m)(?:^ *<dnsmasq:option value='dhcp-[a-z=-]+:node(?:[4-9]|\d{2,}),.*\n)+",
        "    [THE SAME FOR THE OTHERS]\n",
    );
    settings.add_filter(r#"version="\d+\.\d+\.\d+""#, r#"version="[VERSION]""#);
    // It has its own tests, and changes with every field of a lab.
    settings.add_filter(r"\{.*\}</virtlab:lab>", "[SPEC]</virtlab:lab>");
}
