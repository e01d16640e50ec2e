#include "base/world.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"

static void *mem_alloc(void *arg, size_t n)
{
    (void)arg;
    return malloc(n);
}

static void mem_free(void *arg, void *p)
{
    (void)arg;
    free(p);
}

static int64_t clock_wall_us(void *arg)
{
    (void)arg;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t clock_mono_ms(void *arg)
{
    (void)arg;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t clock_boot_ms(void *arg)
{
    (void)arg;
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int random_fill(void *arg, uint8_t *p, size_t n)
{
    (void)arg;
    return RAND_bytes(p, (int)n) == 1;
}

static int random_fill_private(void *arg, uint8_t *p, size_t n)
{
    (void)arg;
    return RAND_priv_bytes(p, (int)n) == 1;
}

const struct dk_mem dk_mem_default = {mem_alloc, mem_free, NULL};

const struct dk_world dk_world_default = {
    .mem = {mem_alloc, mem_free, NULL},
    .clock = {clock_wall_us, clock_mono_ms, clock_boot_ms, NULL},
    .random = {random_fill, random_fill_private, NULL},
};

void *dk_mem_zalloc(const struct dk_mem *mem, size_t n)
{
    void *p = dk_mem_alloc(mem, n);
    return p != NULL ? memset(p, 0, n) : NULL;
}

char *dk_mem_strdup(const struct dk_mem *mem, const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = dk_mem_alloc(mem, n);
    return copy != NULL ? memcpy(copy, s, n) : NULL;
}

dk_rc dk_random_fill(const struct dk_world *world, uint8_t *p, size_t n, struct dk_err *err)
{
    if (world->random.fill(world->random.arg, p, n) != 1) {
        memset(p, 0, n);
        return DK_FAIL(err, RANDOM, "no random bytes could be had");
    }
    return DK_OK;
}

/* Days since 1970-01-01 of a civil date, and back (proleptic Gregorian, years 1..9999). */
static int64_t days_of(int year, int month, int day)
{
    year -= month <= 2;
    int64_t era = year / 400;
    int64_t yoe = year - era * 400;
    int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void date_of(int64_t days, int *year, int *month, int *day)
{
    days += 719468;
    int64_t era = days / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *day = (int)(doy - (153 * mp + 2) / 5 + 1);
    *month = (int)(mp < 10 ? mp + 3 : mp - 9);
    *year = (int)(yoe + era * 400 + (*month <= 2));
}

/* `n` decimal digits and what follows them; returns the byte after. */
static char *put_digits(char *p, unsigned v, size_t n, char after)
{
    for (size_t i = n; i > 0; i--) {
        p[i - 1] = (char)('0' + v % 10);
        v /= 10;
    }
    p[n] = after;
    return p + n + 1;
}

void dk_time_format(int64_t us, char out[static DK_TIME_TEXT])
{
    int64_t least = days_of(1, 1, 1) * DK_DAY_US;
    int64_t most = (days_of(9999, 12, 31) + 1) * DK_DAY_US - 1;
    us = us < least ? least : us > most ? most : us;
    int64_t days = us / DK_DAY_US;
    int64_t rest = us % DK_DAY_US;
    if (rest < 0) {
        rest += DK_DAY_US;
        days--;
    }
    int year, month, day;
    date_of(days, &year, &month, &day);
    unsigned second = (unsigned)(rest / 1000000);
    char *p = put_digits(out, (unsigned)year, 4, '-');
    p = put_digits(p, (unsigned)month, 2, '-');
    p = put_digits(p, (unsigned)day, 2, 'T');
    p = put_digits(p, second / 3600, 2, ':');
    p = put_digits(p, second / 60 % 60, 2, ':');
    p = put_digits(p, second % 60, 2, '.');
    p = put_digits(p, (unsigned)(rest % 1000000), 6, 'Z');
    *p = '\0';
}

bool dk_time_parse(const char *text, size_t len, int64_t *us)
{
    static const char pattern[] = "dddd-dd-ddTdd:dd:dd.ddddddZ";
    if (len != sizeof pattern - 1) {
        return false;
    }
    int64_t part[7] = {0};
    size_t k = 0;
    for (size_t i = 0; i < len; i++) {
        if (pattern[i] == 'd') {
            if (text[i] < '0' || text[i] > '9') {
                return false;
            }
            part[k] = part[k] * 10 + (text[i] - '0');
        } else if (text[i] != pattern[i]) {
            return false;
        } else {
            k++;
        }
    }
    int year = (int)part[0], month = (int)part[1], day = (int)part[2];
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > 31 || part[3] > 23 ||
        part[4] > 59 || part[5] > 59) {
        return false;
    }
    int64_t days = days_of(year, month, day);
    int y, m, d;
    date_of(days, &y, &m, &d); /* the 31st of April comes back as another day */
    if (y != year || m != month || d != day) {
        return false;
    }
    *us = ((days * 24 + part[3]) * 60 + part[4]) * 60 * 1000000 + part[5] * 1000000 + part[6];
    return true;
}

dk_rc dk_uuid_new(const struct dk_world *world, char out[static DK_UUID_TEXT], struct dk_err *err)
{
    uint8_t b[16];
    DK_TRY(dk_random_fill(world, b, sizeof b, err));
    b[6] = (uint8_t)((b[6] & 0x0F) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3F) | 0x80);
    static const size_t part[] = {4, 2, 2, 2, 6};
    const uint8_t *from = b;
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
        dk_hex_encode(from, part[i], out);
        from += part[i];
        out += 2 * part[i];
        *out++ = '-';
    }
    out[-1] = '\0';
    return DK_OK;
}
