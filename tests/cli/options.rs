//! Where an option's value comes from: flag, environment, lab file, default, in this order.

use crate::support::User;

#[test]
fn a_flag_wins_over_the_environment_over_the_lab_file_over_the_default() {
    let user = User::new();
    user.write("lab.toml", "version = 1\nname = 'demo'\nnodes = 4\n");
    for (file, environment, flag, nodes) in [
        (false, None, None, 3),
        (true, None, None, 4),
        (true, Some("5"), None, 5),
        (true, Some("5"), Some("6"), 6),
        (false, Some("5"), Some("6"), 6),
    ] {
        let mut command = user.virtlab(&["render", "--part", "network"]);
        if file {
            command.args(["-f", "lab.toml"]);
        }
        command.envs(environment.map(|nodes| ("VIRTLAB_NODES", nodes)));
        command.args(flag.iter().flat_map(|nodes| ["--nodes", nodes]));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains(&format!("{{\"nodes\":{nodes},")),
            "file {file}, environment {environment:?}, flag {flag:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(text.contains("<name>demo</name>"), file);
    }
}

#[test]
fn a_users_template_is_found_in_the_folder_or_the_configuration() {
    let user = User::new();
    let name = "boot-templates/boot.ipxe.j2";
    user.write(&format!(".config/virtlab/{name}"), "#!ipxe configuration");
    let boot = |args: &[&str]| {
        let output = user.virtlab(&[&["render", "--part", "boot"], args].concat()).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert!(boot(&[]).starts_with("#!ipxe configuration"));
    user.write(&format!("mine/{name}"), "#!ipxe folder");
    assert!(boot(&["--template-dir", "mine"]).starts_with("#!ipxe folder"));
}
