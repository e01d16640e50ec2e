/*
 * price: what a provider's service asks for a master key and its calls, at list price.
 *
 * One table with its date. Called by back ends, which know what kind of key is theirs, and by
 * keys/usage. List prices of the service's cheapest public region in US dollars, before tax and
 * discount. Source: the price pages of AWS KMS (aws.amazon.com/kms/pricing) and of Azure Key Vault
 * (azure.microsoft.com/pricing/details/key-vault).
 */
#ifndef DK_PROVIDER_PRICE_H
#define DK_PROVIDER_PRICE_H

#include <stdint.h>

#define DK_PRICES_OF "2026-03" /* the month of the list */

struct dk_price {
    const char *provider; /* as in KMS_PROVIDER */
    const char *kind;     /* of the master key */
    int64_t per_10000;    /* millionths of a dollar for 10,000 calls */
    int64_t key_month;    /* .. for the key itself, a month */
    int64_t free_month;   /* calls a month that cost nothing, of the whole account */
};

enum dk_price_of {
    DK_PRICE_LOCAL,
    DK_PRICE_AWS,
    DK_PRICE_AZURE_RSA,          /* 2,048 bits, held in software */
    DK_PRICE_AZURE_RSA_LONG,     /* 3,072 and 4,096 bits */
    DK_PRICE_AZURE_RSA_HSM,      /* the same in a vault of the premium tier */
    DK_PRICE_AZURE_RSA_HSM_LONG, /* .. for the first 250 keys */
    DK_PRICE_AZURE_POOL,         /* Managed HSM: by the hour, whatever it is asked */
    DK_PRICE_COUNT
};
extern const struct dk_price dk_prices[DK_PRICE_COUNT];

/* The first of a provider's, for one that is not configured any more; NULL: it has none. */
const struct dk_price *dk_price_find(const char *provider);

#endif
