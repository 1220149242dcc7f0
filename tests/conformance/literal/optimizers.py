"""Optimizers in NumPy: (weight, gradient of each step so far) -> next weight."""

import numpy as np


def adam(rate, beta2):
    """Kingma & Ba 2015, the form at the end of section 2."""

    def update(w, gradients):
        t, m, v = len(gradients), 0, 0
        for g in gradients:
            m, v = 0.9 * m + 0.1 * g, beta2 * v + (1 - beta2) * g**2
        size = rate * np.sqrt(1 - beta2**t) / (1 - 0.9**t)
        return w - size * m / (np.sqrt(v) + 1e-8)

    return update


def radam(rate, beta2):
    """Liu et al. 2020, algorithm 2, rectified above length 5."""

    def update(w, gradients):
        t, m, v = len(gradients), 0, 0
        for g in gradients:
            m, v = 0.9 * m + 0.1 * g, beta2 * v + (1 - beta2) * g**2
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        step = rate * m / (1 - 0.9**t)
        if length <= 5:
            return w - step
        r = np.sqrt((length - 4) * (length - 2) * longest)
        r /= np.sqrt((longest - 4) * (longest - 2) * length)
        return w - step * r * np.sqrt(1 - beta2**t) / (np.sqrt(v) + 1e-8)

    return update


def sgd(rate):
    return lambda w, gradients: w - rate * gradients[-1]


def of_variable(variable, model, h):
    """The update of one variable of the model, by the settings."""
    of_model = {"adam": adam, "radam": radam}[h.optimizer]
    if any(variable is v for v in model.inference_variables):
        return of_model(h.learning_rate, h.beta2)
    if any(variable is v for v in model.prior_variables):
        if h.prior_optimizer == "sgd":
            return sgd(h.learning_rate_prior or h.learning_rate)
        if h.learning_rate_prior:
            return adam(h.learning_rate_prior, h.beta2)
        return of_model(h.learning_rate, h.beta2)
    return of_model(h.learning_rate_generator or h.learning_rate, h.beta2)


def of_control(h):
    """The update of control variates, which learn ten times as fast as the model."""
    return adam(h.learning_rate_control or 10 * h.learning_rate, h.beta2)
