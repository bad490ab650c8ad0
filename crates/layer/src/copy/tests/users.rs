use super::{User, owner, user};
use crate::Stack;
use crate::testing::Space;

fn image(space: &Space) -> Stack {
    let files = [
        "etc/passwd = root:x:0:0:root:/root:/bin/sh\napp:x:1001:1002:App:/home/app:/bin/sh\n# c\nbad line\nodd:x:y:z:::\n77:x:5:5::/five\nnum:x:7:8::/n\nempty:x:9:9::",
        "etc/group = root:x:0:root\nstaff:x:50:app, root\nwheel:x:10:root,app\napp:x:1002:app\nnet:x:90:",
    ];
    space.layer("image", &files)
}

fn check(words: &str, uid: u32, gid: u32, groups: &[u32], home: &str) {
    let space = Space::new();
    let expected = User { uid, gid, groups: groups.to_vec(), home: home.to_owned() };
    assert_eq!(user(&image(&space), words).unwrap(), expected, "{words}");
}

/// 3
#[test]
fn users_have_what_the_files_say() {
    check("app", 1001, 1002, &[10, 50, 1002], "/home/app");
    check("1001", 1001, 1002, &[10, 50, 1002], "/home/app");
    check("", 0, 0, &[0, 10], "/root");
    check("4242", 4242, 0, &[0], "/");
    check("7", 7, 8, &[8], "/n");
    check("empty", 9, 9, &[9], "/");
    check("app:net", 1001, 90, &[90], "/home/app");
    check("app:77", 1001, 77, &[77], "/home/app");
    check(":net", 0, 90, &[90], "/root");
    check("app:", 1001, 1002, &[10, 50, 1002], "/home/app");
    check("77", 77, 0, &[0], "/");
}

#[test]
fn unknown_names_are_errors_that_name_the_file() {
    let space = Space::new();
    let image = image(&space);
    let message = |words| user(&image, words).unwrap_err().to_string();
    assert_eq!(
        message("nobody"),
        "no user `nobody` in the image's /etc/passwd; use a number, or make the user in a RUN before"
    );
    assert!(message("app:none").starts_with("no group `none` in the image's /etc/group"));
    assert!(message("4294967296").starts_with("no user `4294967296`"));
}

/// 1, 2
#[test]
fn chown_falls_back_to_root_and_to_its_own_group() {
    let space = Space::new();
    let image = image(&space);
    let check = |words: &str, expected: (u32, u32)| {
        assert_eq!(owner(Some(&image), words).unwrap(), expected, "{words}");
    };
    check("1001", (1001, 1001));
    check("app", (1001, 1002));
    check("app:staff", (1001, 50));
    check("5:6", (5, 6));
    check("nobody", (0, 0));
    check("nobody:none", (0, 0));
    check("2147483648", (0, 0));
    check("5:2147483648", (5, 5));
    check("5:5:5", (5, 5));
    check("app:none", (1001, 1002));
    check("app:", (1001, 0));
    check("5:", (5, 0));
    check(":staff", (0, 50));
    check("root:root", (0, 0));
    check("+5", (5, 5));
    check("odd", (0, 0));
    assert_eq!(owner(Some(&Stack::default()), "root:7").unwrap(), (0, 7));
    assert!(owner(Some(&Stack::default()), "app").is_err(), "a scratch has no files yet");
    assert_eq!(owner(None, "5").unwrap(), (5, 5));
    assert!(owner(None, "app").is_err() && owner(None, "5:app").is_err());
}
