#include "keys/chains.h"

#include <string.h>

#define NAME_MAX_TEXT 320 /* a tenant or a process, and a mark */

dk_rc dk_chains_init(struct dk_chains *chains, const struct dk_world *world, struct dk_err *err)
{
    *chains = (struct dk_chains){.mem = &world->mem};
    return dk_random_fill(world, chains->hash_key, sizeof chains->hash_key, err);
}

void dk_chains_clear(struct dk_chains *chains)
{
    dk_mem_free(chains->mem, chains->chains);
    dk_mem_free(chains->mem, chains->macs);
    chains->chains = NULL;
    chains->macs = NULL;
    chains->cap = chains->mac_cap = 0;
}

struct dk_hash128 dk_chains_hash(const struct dk_chains *chains, const char *s)
{
    return dk_siphash128(chains->hash_key, (const uint8_t *)s, strlen(s));
}

bool dk_hash_same(struct dk_hash128 a, struct dk_hash128 b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

static bool is_zero(struct dk_hash128 a)
{
    return (a.lo | a.hi) == 0;
}

static struct dk_chain *place(struct dk_chain *chains, size_t cap, struct dk_hash128 id)
{
    size_t i = (size_t)id.lo & (cap - 1);
    while (!is_zero(chains[i].id) && !dk_hash_same(chains[i].id, id)) {
        i = (i + 1) & (cap - 1);
    }
    return &chains[i];
}

static bool grow(struct dk_chains *chains)
{
    size_t cap = chains->cap == 0 ? 256 : chains->cap * 2;
    struct dk_chain *bigger = dk_mem_zalloc(chains->mem, cap * sizeof *bigger);
    if (bigger == NULL) {
        return false;
    }
    for (size_t i = 0; i < chains->cap; i++) {
        if (!is_zero(chains->chains[i].id)) {
            *place(bigger, cap, chains->chains[i].id) = chains->chains[i];
        }
    }
    dk_mem_free(chains->mem, chains->chains);
    chains->chains = bigger;
    chains->cap = cap;
    return true;
}

struct dk_chain *dk_chain_of(struct dk_chains *chains, bool process, const char *name)
{
    char text[NAME_MAX_TEXT];
    size_t n = strnlen(name, sizeof text - 1);
    text[0] = process ? 'p' : 't';
    memcpy(text + 1, name, n);
    if (chains->used + 1 > chains->cap / 4 * 3 && !grow(chains)) {
        return NULL;
    }
    struct dk_hash128 id = dk_siphash128(chains->hash_key, (const uint8_t *)text, n + 1);
    struct dk_chain *chain = place(chains->chains, chains->cap, id);
    chains->used += is_zero(chain->id);
    chain->id = id;
    return chain;
}

/* ---- the macs of all log rows ---------------------------------------------------------------- */

static uint64_t *mac_place(uint64_t *macs, size_t cap, uint64_t hash)
{
    size_t i = (size_t)hash & (cap - 1);
    while (macs[i] != 0 && macs[i] != hash) {
        i = (i + 1) & (cap - 1);
    }
    return &macs[i];
}

static bool grow_macs(struct dk_chains *chains)
{
    size_t cap = chains->mac_cap == 0 ? 1024 : chains->mac_cap * 2;
    uint64_t *bigger = dk_mem_zalloc(chains->mem, cap * sizeof *bigger);
    if (bigger == NULL) {
        return false;
    }
    for (size_t i = 0; i < chains->mac_cap; i++) {
        if (chains->macs[i] != 0) {
            *mac_place(bigger, cap, chains->macs[i]) = chains->macs[i];
        }
    }
    dk_mem_free(chains->mem, chains->macs);
    chains->macs = bigger;
    chains->mac_cap = cap;
    return true;
}

static uint64_t mac_hash(const struct dk_chains *chains, uint32_t generation, const char *mac)
{
    uint64_t hash = dk_chains_hash(chains, mac).lo ^ generation * UINT64_C(0x9e3779b97f4a7c15);
    return hash != 0 ? hash : 1;
}

bool dk_chains_add_mac(struct dk_chains *chains, uint32_t generation, const char *mac)
{
    if (chains->mac_count + 1 > chains->mac_cap / 4 * 3 && !grow_macs(chains)) {
        return false;
    }
    uint64_t hash = mac_hash(chains, generation, mac);
    uint64_t *at = mac_place(chains->macs, chains->mac_cap, hash);
    chains->mac_count += *at == 0;
    *at = hash;
    return true;
}

bool dk_chains_has_mac(const struct dk_chains *chains, uint32_t generation, const char *mac)
{
    return chains->mac_cap > 0 &&
           *mac_place(chains->macs, chains->mac_cap, mac_hash(chains, generation, mac)) != 0;
}
