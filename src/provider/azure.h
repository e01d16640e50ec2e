/*
 * azure: the master key lies in Azure Key Vault, or in a Managed HSM.
 *
 * A dk_provider_ops like any other. RSA keys wrap 32 random bytes, and those the data key; oct-HSM
 * keys wrap it themselves (FORMATS "Wraps"). Anybody who has an RSA key's public half can make a
 * wrap, so this back end does not authenticate: who believes one has to know more (row MAC, pin).
 */
#ifndef DK_PROVIDER_AZURE_H
#define DK_PROVIDER_AZURE_H

#include "provider/provider.h"

extern const struct dk_provider_ops dk_provider_azure;

#endif
