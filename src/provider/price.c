#include "provider/price.h"

#include <string.h>

#define DOLLAR INT64_C(1000000)
#define CENT (DOLLAR / 100)
#define HOURS 730 /* of a month */

const struct dk_price dk_prices[DK_PRICE_COUNT] = {
    [DK_PRICE_LOCAL] = {"local", "file", 0, 0, 0},
    [DK_PRICE_AWS] = {"aws-kms", "symmetric", 3 * CENT, DOLLAR, 20000},
    [DK_PRICE_AZURE_RSA] = {"azure-key-vault", "RSA 2048", 3 * CENT, 0, 0},
    [DK_PRICE_AZURE_RSA_LONG] = {"azure-key-vault", "RSA 3072 or 4096", 15 * CENT, 0, 0},
    [DK_PRICE_AZURE_RSA_HSM] = {"azure-key-vault", "RSA-HSM 2048", 3 * CENT, DOLLAR, 0},
    [DK_PRICE_AZURE_RSA_HSM_LONG] = {"azure-key-vault", "RSA-HSM 3072 or 4096", 15 * CENT,
                                     5 * DOLLAR, 0},
    [DK_PRICE_AZURE_POOL] = {"azure-key-vault", "Managed HSM, Standard B1", 0, 320 * CENT *HOURS,
                             0},
};

const struct dk_price *dk_price_find(const char *provider)
{
    for (size_t i = 0; i < DK_PRICE_COUNT; i++) {
        if (strcmp(dk_prices[i].provider, provider) == 0) {
            return &dk_prices[i];
        }
    }
    return NULL;
}
