#include "keys/anchor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"

static dk_rc print(const struct dk_suite *suite, const struct dk_anchor *anchor,
                   char out[static DK_ANCHOR_MAX], size_t *n, struct dk_err *err)
{
    uint8_t sum[DK_SHA256_LEN];
    char hex[DK_HASH_TEXT];
    int head = snprintf(out, DK_ANCHOR_MAX, "dekhand-anchor 1\npin %s\nseal %lld %s\n", anchor->pin,
                        (long long)anchor->seal.n, anchor->seal.hash);
    DK_TRY(dk_sha256(suite, dk_view_of(out, (size_t)head), sum, err));
    dk_hex_encode(sum, sizeof sum, hex);
    *n = (size_t)head +
         (size_t)snprintf(out + head, DK_ANCHOR_MAX - (size_t)head, "sha256 %s\n", hex);
    return DK_OK;
}

bool dk_anchor_parse(const struct dk_suite *suite, const char *text, size_t n,
                     struct dk_anchor *out)
{
    char copy[DK_ANCHOR_MAX + 1], again[DK_ANCHOR_MAX];
    struct dk_anchor anchor = {.seal = {.n = 0}};
    struct dk_err ignored;
    long long number = 0;
    size_t again_n = 0;
    dk_err_clear(&ignored);
    if (n >= sizeof copy) {
        return false;
    }
    memcpy(copy, text, n);
    copy[n] = '\0';
    if (sscanf(copy, "dekhand-anchor 1\npin %64[0-9a-f]\nseal %18lld %64[0-9a-f]\n", anchor.pin,
               &number, anchor.seal.hash) != 3 ||
        number < 1 || strlen(anchor.pin) != 64 || strlen(anchor.seal.hash) != 64) {
        return false;
    }
    anchor.seal.n = number;
    if (print(suite, &anchor, again, &again_n, &ignored) != DK_OK || again_n != n ||
        memcmp(again, text, n) != 0) {
        return false; /* one spelling, and the sum is right */
    }
    *out = anchor;
    return true;
}

dk_rc dk_anchor_read(const struct dk_suite *suite, const char *path, struct dk_anchor *out,
                     struct dk_err *err)
{
    char text[DK_ANCHOR_MAX + 1];
    struct dk_err none;
    int fd = -1;
    dk_err_clear(&none);
    dk_rc rc = dk_file_open_private(path, &fd, &none);
    if (rc == DK_E_NOT_FOUND) {
        *out = (struct dk_anchor){.seal = {.n = 0}};
        return DK_OK;
    }
    if (rc != DK_OK) {
        *err = none;
        return rc;
    }
    ssize_t n = read(fd, text, sizeof text);
    int why = errno;
    close(fd);
    if (n < 0) {
        return DK_FAIL_BACKEND(err, IO, why, "%s cannot be read: %s", path, strerror(why));
    }
    if (!dk_anchor_parse(suite, text, (size_t)n, out)) {
        return DK_FAIL(
            err, TAMPERED,
            "the anchor file %s is damaged: restore it, or remove it; then the registry is "
            "trusted as it stands, so run `dekhand audit verify` next",
            path);
    }
    return DK_OK;
}

static dk_rc replace(const struct dk_suite *suite, const char *path, const struct dk_anchor *anchor,
                     struct dk_err *err)
{
    char text[DK_ANCHOR_MAX];
    size_t n = 0;
    struct dk_new_file file;
    DK_TRY(print(suite, anchor, text, &n, err));
    DK_TRY(dk_new_file_open(&file, path, err));
    dk_rc rc = dk_fd_write(file.fd, text, n, err);
    if (rc == DK_OK) {
        rc = dk_new_file_commit(&file, err);
    }
    dk_new_file_abandon(&file);
    return rc;
}

static dk_rc write_locked(const struct dk_suite *suite, const char *path,
                          const struct dk_anchor *anchor, bool back, struct dk_err *err)
{
    struct dk_anchor there;
    if (!back) {
        DK_TRY(dk_anchor_read(suite, path, &there, err));
        if (there.seal.n >= anchor->seal.n) {
            return DK_OK;
        }
    }
    return replace(suite, path, anchor, err);
}

dk_rc dk_anchor_write(const struct dk_suite *suite, const char *path,
                      const struct dk_anchor *anchor, bool back, struct dk_err *err)
{
    char lock[DK_PATH_MAX + 8];
    snprintf(lock, sizeof lock, "%s.lock", path);
    int fd = open(lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) != 0) {
        int why = errno;
        if (fd >= 0) {
            close(fd);
        }
        return DK_FAIL_BACKEND(err, IO, why, "%s cannot be locked: %s", lock, strerror(why));
    }
    dk_rc rc = write_locked(suite, path, anchor, back, err);
    close(fd);
    return rc;
}
