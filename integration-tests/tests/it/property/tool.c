/* What the property tests need inside of a RUN and busybox does not have.
 *
 *   tool list DIR      what is at and below DIR, a line each: see listing.rs
 *   tool setcap FILE   gives a file cap_net_raw=ep
 *   tool xattr FILE    gives a file user.note, which no layer keeps
 *   tool socket PATH   binds a socket
 *   tool sparse FILE   writes a file with a hole in it
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

static const unsigned char CAPABILITY[20] = {1, 0, 0, 2, 0, 32};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void escaped(const char *text) {
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c > ' ' && c < 127 && c != '\\')
            putchar(c);
        else
            printf("\\%03o", c);
    }
}

static uint64_t content(const char *path) {
    uint64_t hash = 0xcbf29ce484222325u;
    unsigned char buffer[65536];
    ssize_t got;
    int fd = open(path, O_RDONLY | O_NOFOLLOW);
    if (fd < 0)
        fail(path);
    while ((got = read(fd, buffer, sizeof buffer)) > 0)
        for (ssize_t at = 0; at < got; at++)
            hash = (hash ^ buffer[at]) * 0x100000001b3u;
    close(fd);
    return hash;
}

/* Of a namespaced capability the id of the namespace's root is left out: it is the reader's matter. */
static void capability(const char *path) {
    unsigned char value[64];
    ssize_t length = lgetxattr(path, "security.capability", value, sizeof value);
    if (length < 20) {
        putchar('-');
        return;
    }
    for (int at = 0; at < 20; at++)
        printf("%02x", at == 3 ? 2 : value[at]);
}

static void list(const char *path, const char *shown, uint64_t mount) {
    struct statx st;
    unsigned want = STATX_BASIC_STATS | STATX_MNT_ID;
    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, want, &st) != 0)
        fail(path);
    if (mount == 0)
        mount = st.stx_mnt_id;
    escaped(*shown ? shown : ".");
    if (st.stx_mnt_id != mount) {
        puts(" mount");
        return;
    }
    const char *kind = S_ISREG(st.stx_mode)    ? "file"
                       : S_ISDIR(st.stx_mode)  ? "dir"
                       : S_ISLNK(st.stx_mode)  ? "link"
                       : S_ISFIFO(st.stx_mode) ? "fifo"
                       : S_ISCHR(st.stx_mode)  ? "char"
                       : S_ISBLK(st.stx_mode)  ? "block"
                                               : "socket";
    printf(" %s %04o %u:%u %lld.%09u %x:%x:%llu ", kind, st.stx_mode & 07777, st.stx_uid, st.stx_gid,
           (long long)st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec, st.stx_dev_major, st.stx_dev_minor,
           (unsigned long long)st.stx_ino);
    if (S_ISREG(st.stx_mode)) {
        printf("%llu:%016llx ", (unsigned long long)st.stx_size, (unsigned long long)content(path));
        capability(path);
    } else if (S_ISLNK(st.stx_mode)) {
        char target[4096];
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length < 0)
            fail(path);
        target[length] = 0;
        escaped(target);
        printf(" -");
    } else if (S_ISCHR(st.stx_mode) || S_ISBLK(st.stx_mode)) {
        printf("%u:%u -", st.stx_rdev_major, st.stx_rdev_minor);
    } else {
        printf("- -");
    }
    putchar('\n');
    if (!S_ISDIR(st.stx_mode))
        return;
    struct dirent **names;
    int count = scandir(path, &names, NULL, alphasort);
    if (count < 0)
        fail(path);
    for (int at = 0; at < count; at++) {
        const char *name = names[at]->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            char *below, *below_shown;
            if (asprintf(&below, "%s/%s", path, name) < 0 ||
                asprintf(&below_shown, "%s%s%s", shown, *shown ? "/" : "", name) < 0)
                fail("memory");
            list(below, below_shown, mount);
            free(below);
            free(below_shown);
        }
        free(names[at]);
    }
    free(names);
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    const char *what = argv[1], *path = argv[2];
    if (strcmp(what, "list") == 0) {
        list(path, "", 0);
        return fflush(stdout) != 0;
    }
    if (strcmp(what, "setcap") == 0)
        return setxattr(path, "security.capability", CAPABILITY, sizeof CAPABILITY, 0) != 0;
    if (strcmp(what, "xattr") == 0)
        return setxattr(path, "user.note", "x", 1, 0) != 0;
    if (strcmp(what, "socket") == 0) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        strncpy(address.sun_path, path, sizeof address.sun_path - 1);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        return bind(fd, (struct sockaddr *)&address, sizeof address) != 0;
    }
    if (strcmp(what, "sparse") == 0) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0640);
        return fd < 0 || pwrite(fd, "end", 3, 300000) != 3;
    }
    return 2;
}
