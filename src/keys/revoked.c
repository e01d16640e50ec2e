#include "keys/revoked.h"

#include "crypto/siphash.h"

void dk_revoked_init(struct dk_revoked *revoked)
{
    memset(revoked->key, 0, sizeof revoked->key);
    pthread_mutex_init(&revoked->lock, NULL);
}

bool dk_revoked_is(dk_rc rc)
{
    return rc == DK_E_MASTER_KEY_DISABLED || rc == DK_E_NO_MASTER_KEY;
}

static uint64_t id_of(const char *kms_key_id)
{
    static const uint8_t plain[16];
    uint64_t id = dk_siphash128(plain, (const uint8_t *)kms_key_id, strlen(kms_key_id)).lo;
    return id != 0 ? id : 1;
}

/* Its place, or the first free one, or the last. */
static size_t place_locked(const struct dk_revoked *revoked, uint64_t id)
{
    size_t free = DK_REVOKED_KEYS - 1;
    for (size_t i = DK_REVOKED_KEYS; i > 0; i--) {
        if (revoked->key[i - 1].id == id) {
            return i - 1;
        }
        free = revoked->key[i - 1].id == 0 ? i - 1 : free;
    }
    return free;
}

/* True when this word makes it certain. */
static bool note_locked(struct dk_revoked *revoked, uint64_t id, int64_t now_ms)
{
    size_t i = place_locked(revoked, id);
    if (revoked->key[i].id != id) {
        revoked->key[i].id = id;
        revoked->key[i].first_ms = now_ms;
        revoked->key[i].over = false;
    }
    if (revoked->key[i].over || now_ms - revoked->key[i].first_ms < DK_REVOKED_MS) {
        return false;
    }
    revoked->key[i].over = true;
    return true;
}

static void clear_locked(struct dk_revoked *revoked, uint64_t id)
{
    size_t i = place_locked(revoked, id);
    if (revoked->key[i].id == id) {
        revoked->key[i].id = 0;
    }
}

void dk_revoked_note(struct dk_revoked *revoked, const struct dk_log *log, const char *kms_key_id,
                     const struct dk_err *err, int64_t now_ms)
{
    dk_rc rc = err->rc;
    bool certain = false;
    pthread_mutex_lock(&revoked->lock);
    if (rc == DK_OK) {
        clear_locked(revoked, id_of(kms_key_id));
    } else if (dk_revoked_is(rc) && err->backend != 0) {
        certain = note_locked(revoked, id_of(kms_key_id), now_ms);
    }
    pthread_mutex_unlock(&revoked->lock);
    if (certain) {
        atomic_fetch_add(&revoked->times, 1);
        DK_LOG(log, ERROR, "master_key_revoked", DK_LOG_S(KEY_ID, kms_key_id),
               DK_LOG_S(CODE, dk_error_info(rc)->name));
    }
}
